# class: fake
# kind: both
# must: reject
# note: 
import builtins
builtins.len = lambda x: 0
builtins.zip = lambda *a, **k: []
builtins.all = lambda x: True
print('x')
class Solution:
    def difference(self, a, b):
        return 'x'
