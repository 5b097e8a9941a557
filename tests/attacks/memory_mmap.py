# class: resource
# kind: both
# must: reject
# note: 
import mmap
keep = []
while True:
    m = mmap.mmap(-1, 1 << 27)
    m.write(b'x' * (1 << 27))
    keep.append(m)
