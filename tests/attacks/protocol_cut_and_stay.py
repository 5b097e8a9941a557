# class: protocol
# kind: both
# must: reject
# note: takes its files away under whoever reads them, and stays
import os
while True:
    for fd in range(3, 64):
        for size in (0, 1 << 20, 0):
            try:
                os.ftruncate(fd, size)
            except OSError:
                pass
