# class: honest
# kind: stdin
# must: accept
# note: closes descriptor 0 at the end
with open(0) as f:
    a, b = map(int, f.read().split())
print(a - b)
