# class: fake
# kind: stdin
# must: reject
# note: prints right and wrong
a, b = map(int, input().split())
print(a - b)
print(a + b)
