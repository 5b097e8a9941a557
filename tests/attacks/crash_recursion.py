# class: crash
# kind: both
# must: reject
# note: 
import sys
sys.setrecursionlimit(1 << 30)
def f(): return [f() for _ in range(1)]
sorted([1, 2], key=lambda x: f())
