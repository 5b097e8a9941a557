# class: crash
# kind: both
# must: reject
# note: an exception that cannot be printed
class E(Exception):
    def __str__(self): raise ValueError
    __repr__ = __str__
raise E
