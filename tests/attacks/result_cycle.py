# class: resource
# kind: call
# must: reject
# note: 
class Solution:
    def difference(self, a, b):
        x = []
        x.append(x)
        return x
