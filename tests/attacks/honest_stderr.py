# class: honest
# kind: stdin
# must: accept
# note: talks on standard error
import sys
a, b = map(int, input().split())
print('x' * 100000, file=sys.stderr)
print(a - b)
