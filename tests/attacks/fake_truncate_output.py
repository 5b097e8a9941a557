# class: fake
# kind: stdin
# must: reject
# note: cuts the output file
import os
os.ftruncate(1, 0)
print('')
