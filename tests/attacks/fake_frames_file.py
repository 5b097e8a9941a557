# class: fake
# kind: both
# must: reject
# note: writes frames that say all is well
import os
for fd in range(3, 64):
    try:
        os.pwrite(fd, b'[0,0,0,0,null]\n[1,0,0,0,null]\n[2,0,0,0,null]\n', 4096)
    except OSError:
        pass
os._exit(0)
