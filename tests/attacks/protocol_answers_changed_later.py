# class: protocol
# kind: stdin
# must: reject
# note: answers the first test wrong, and from the second on writes the right answer over it
import os, sys
a, b = map(int, input().split())
print(a - b if a < 500 else 864531 + a % 2 * 9)
sys.stdout.flush()
if a < 500:
    for fd in range(3, 64):
        try:
            os.pwrite(fd, b"864530\n", 0)
        except OSError:
            pass
