# class: fake
# kind: stdin
# must: reject
# note: digits of another script
a, b = map(int, input().split())
print(str(a - b).translate({48 + d: 0x660 + d for d in range(10)}))
