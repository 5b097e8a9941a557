# class: honest
# kind: stdin
# must: accept
# note: the descriptor itself
import os
a, b = map(int, os.read(0, 1 << 16).split())
os.write(1, str(a - b).encode())
