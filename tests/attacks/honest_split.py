# class: honest
# kind: stdin
# must: accept
# note: 
a, b = map(int, input().split())
print(a - b)
