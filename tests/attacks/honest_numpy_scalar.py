# class: honest
# kind: call
# must: accept
# note: an array scalar is a number
import numpy as np
class Solution:
    def difference(self, a, b):
        return np.int64(a) - np.int64(b)
