# class: honest
# kind: stdin
# must: accept
# note: deep recursion in a thread with a large stack
import sys, threading
sys.setrecursionlimit(1 << 20)
threading.stack_size(1 << 27)
def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)
def main():
    a, b = map(int, input().split())
    print(a - b + depth(20000) - 20000)
t = threading.Thread(target=main)
t.start()
t.join()
