# class: honest
# kind: stdin
# must: accept
# note: prints when the interpreter ends
import atexit
out = []
atexit.register(lambda: print(*out))
a, b = map(int, input().split())
out.append(a - b)
