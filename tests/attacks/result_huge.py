# class: resource
# kind: call
# must: reject
# note: 
class Solution:
    def difference(self, a, b):
        return [0] * (1 << 25)
