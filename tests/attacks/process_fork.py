# class: resource
# kind: both
# must: reject
# note: 
import os
while True:
    os.fork()
