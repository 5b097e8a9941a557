# class: time
# kind: call
# must: reject
# note: 
class Solution:
    def difference(self, a, b):
        from itertools import count
        return sum(count())
