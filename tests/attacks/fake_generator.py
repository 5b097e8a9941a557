# class: fake
# kind: call
# must: reject
# note: 
class Solution:
    def difference(self, a, b):
        yield a - b
