# class: escape
# kind: call
# must: reject
# note: an object that runs code when it is loaded
class P:
    def __reduce__(self):
        import os
        return os.system, ('touch /tmp/canary_pickle',)
class Solution:
    def difference(self, a, b):
        return P()
