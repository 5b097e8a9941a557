# class: time
# kind: both
# must: reject
# note: one call that cannot be interrupted
print(7 ** 7 ** 9 % 10)
