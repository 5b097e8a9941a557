# class: time
# kind: both
# must: reject
# note: claims every tenth of a second to have got one test further, and sleeps
import os, struct, time
F = struct.Struct("<qqq232s")
i = 0
while True:
    for fd in range(3, 64):
        try:
            os.pwrite(fd, F.pack(0, 0, 0, b""), i * F.size)
        except OSError:
            pass
    i += 1
    time.sleep(0.1)
