# class: fake
# kind: stdin
# must: reject
# note: 
import sys
print(sys.stdin.read())
