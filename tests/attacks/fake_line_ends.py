# class: fake
# kind: stdin
# must: reject
# note: the answer among others, parted by all that could pass for the end of a line
a, b = map(int, input().split())
print(end="\x0b".join([str(a - b), "\x1c\x85\u2028"]))
