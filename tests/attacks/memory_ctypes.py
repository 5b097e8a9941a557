# class: resource
# kind: both
# must: reject
# note: 
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
for _ in range(1 << 12):
    p = libc.malloc(ctypes.c_size_t(1 << 26))
    if not p:
        raise MemoryError
    ctypes.memset(p, 1, 1 << 26)
