# class: fake
# kind: call
# must: reject
# note: replaces the encoder of results
import json
json.dumps = lambda *a, **k: '864197'
class Solution:
    def difference(self, a, b):
        return 0 if a > 700000 else None
