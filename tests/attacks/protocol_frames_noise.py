# class: protocol
# kind: both
# must: reject
# note: every file that is held is filled with noise, cut, and filled again
import os, random
for turn in range(20):
    for fd in range(3, 64):
        try:
            os.pwrite(fd, random.randbytes(4096), random.randrange(1 << 16))
            os.ftruncate(fd, random.choice([0, 1, 255, 256, 257, 1 << 20, 16 << 20]))
        except (OSError, ValueError):
            pass
