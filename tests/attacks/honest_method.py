# class: honest
# kind: call
# must: accept
# note: 
class Solution:
    def difference(self, a, b):
        return a - b
