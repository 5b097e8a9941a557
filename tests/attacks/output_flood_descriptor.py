# class: resource
# kind: both
# must: reject
# note: 
import os
block = b'y' * (1 << 20)
while True:
    os.write(1, block)
