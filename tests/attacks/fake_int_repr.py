# class: fake
# kind: call
# must: reject
# note: an int that prints as anything
class I(int):
    def __repr__(self): return '0'
    __str__ = __repr__
    def __index__(self): return 0
class Solution:
    def difference(self, a, b):
        return I(12345)
