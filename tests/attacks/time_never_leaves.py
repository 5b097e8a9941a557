# class: time
# kind: stdin
# must: accept
# note: answers right, but has taken away the way out; nobody has to wait for it
import os, time
a, b = map(int, input().split())
print(a - b)
os._exit = lambda *_: time.sleep(1000)
