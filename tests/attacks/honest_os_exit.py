# class: honest
# kind: stdin
# must: accept
# note: leaves without cleaning up
a, b = map(int, input().split())
import os, sys
print(a - b)
sys.stdout.flush()
os._exit(0)
