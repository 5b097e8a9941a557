# class: fake
# kind: call
# must: reject
# note: the text of the number is not the number
class Solution:
    def difference(self, a, b):
        return str(a - b)
