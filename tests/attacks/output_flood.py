# class: resource
# kind: stdin
# must: reject
# note: 
import sys
while True:
    sys.stdout.write('y' * (1 << 16))
