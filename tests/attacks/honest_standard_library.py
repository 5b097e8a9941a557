# class: honest
# kind: stdin
# must: accept
# note: 
import bisect, collections, decimal, fractions, functools, heapq, itertools, math, operator, re, statistics, string
a, b = map(int, input().split())
print(operator.sub(a, b))
