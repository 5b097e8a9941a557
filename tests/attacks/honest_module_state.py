# class: honest
# kind: stdin
# must: accept
# note: state of one test must not reach the next
a, b = map(int, input().split())
import math
if hasattr(math, 'seen'):
    print('again')
else:
    math.seen = True
    print(a - b)
