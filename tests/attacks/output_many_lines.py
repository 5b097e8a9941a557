# class: output
# kind: stdin
# must: reject
# note: sixteen million blank lines around one right answer and a wrong one
import os
a, b = map(int, input().split())
os.write(1, b"\n" * (8 << 20) + b"%d" % (a - b) + b"\n" * ((8 << 20) - 64) + b"1\n")
