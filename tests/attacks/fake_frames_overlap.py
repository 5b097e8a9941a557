# class: fake
# kind: stdin
# must: reject
# note: frames that point all tests at one answer
a, b = map(int, input().split())
import os
os.write(1, b'%d\n' % (a - b))
for fd in range(3, 64):
    try:
        os.pwrite(fd, b''.join(b'[%d,0,7,0,null]\n' % i for i in range(3)), 4096)
    except OSError:
        pass
os._exit(0)
