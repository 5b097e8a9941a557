# class: fake
# kind: call
# must: reject
# note: 
class Solution:
    def difference(self, a, b):
        return a - b + 1e-9
