# class: fake
# kind: call
# must: reject
# note: 
class Any:
    def __eq__(self, other): return True
    def __hash__(self): return 0
class Solution:
    def difference(self, a, b):
        return Any()
