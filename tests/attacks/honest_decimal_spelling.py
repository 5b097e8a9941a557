# class: honest
# kind: stdin
# must: accept
# note: the same number written otherwise
a, b = map(int, input().split())
print(f'{a - b}.0')
