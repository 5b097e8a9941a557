# class: protocol
# kind: both
# must: reject
# note: frames whose numbers are the largest, the smallest and just outside
import os, struct
N = [-1 << 63, -1, 0, 1, 7, 4096, (16 << 20) - 1, 16 << 20, 20 << 30, 1 << 62, (1 << 63) - 1]
F = struct.Struct("<qqq232s")
k = os.getpid()
for fd in range(3, 64):
    for i in range(64):
        try:
            os.pwrite(fd, F.pack(N[(k + i) % 11], N[(k * i) % 11], N[i % 11], b""), i * F.size)
        except OSError:
            pass
for spin in range(10 ** 6):
    pass
os._exit(0)
