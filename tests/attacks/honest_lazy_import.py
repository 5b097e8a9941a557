# class: honest
# kind: stdin
# must: accept
# note: a module nobody preloads
import colorsys, wave, sched
a, b = map(int, input().split())
print(a - b)
