# class: resource
# kind: call
# must: reject
# note: 
class Solution:
    def difference(self, a, b):
        x = 0
        for _ in range(200000):
            x = [x]
        return x
