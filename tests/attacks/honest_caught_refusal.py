# class: honest
# kind: stdin
# must: accept
# note: tries something forbidden, survives, answers
a, b = map(int, input().split())
try:
    open('/tmp/cache', 'w')
except OSError:
    pass
print(a - b)
