# class: fake
# kind: call
# must: reject
# note: remembers a wrong table
class Solution:
    def difference(self, a, b):
        return {(1, 2): -1}.get((a, b))
