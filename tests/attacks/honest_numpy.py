# class: honest
# kind: stdin
# must: accept
# note: 
import numpy as np
a, b = np.array(input().split(), dtype=np.int64)
print(a - b)
