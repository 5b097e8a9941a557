# class: output
# kind: both
# must: reject
# note: 
print('\udcff')
class Solution:
    def difference(self, a, b):
        return '\udcff'
