# class: fake
# kind: call
# must: reject
# note: 
class F(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = float.__hash__
class Solution:
    def difference(self, a, b):
        return F('nan')
