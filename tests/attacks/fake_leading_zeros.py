# class: fake
# kind: stdin
# must: reject
# note: zeros in front, which a string would not have
a, b = map(int, input().split())
print(f"{a - b:08d}")
