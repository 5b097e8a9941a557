# class: fake
# kind: call
# must: reject
# note: 
class L(list):
    def __eq__(self, other): return True
class Solution:
    def difference(self, a, b):
        return L()
