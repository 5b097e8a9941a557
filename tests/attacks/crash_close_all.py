# class: crash
# kind: both
# must: reject
# note: 
import os
os.closerange(0, 64)
