# class: honest
# kind: stdin
# must: accept
# note: state in a module that lives on, and an end that skips the interpreter's
import math, os, sys
if hasattr(math, "seen"):
    print("again")
math.seen = True
a, b = map(int, input().split())
print(a - b)
sys.stdout.flush()
if a < 100:
    os._exit(0)
