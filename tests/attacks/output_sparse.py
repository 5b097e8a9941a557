# class: resource
# kind: both
# must: reject
# note: a file that claims to be huge
import os
os.ftruncate(1, 1 << 40)
