# class: resource
# kind: both
# must: reject
# note: 
import os
keep = []
while True:
    keep.append(os.dup(0))
