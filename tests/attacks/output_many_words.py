# class: output
# kind: stdin
# must: reject
# note: five million words in a line
import os
os.write(1, b"1 " * ((16 << 20) // 2 - 1))
