# class: honest
# kind: stdin
# must: accept
# note: raises the stack limit
import resource, sys
resource.setrlimit(resource.RLIMIT_STACK, (1 << 26, resource.RLIM_INFINITY))
sys.setrecursionlimit(10 ** 6)
a, b = map(int, input().split())
print(a - b)
