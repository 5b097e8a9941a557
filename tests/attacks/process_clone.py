# class: resource
# kind: both
# must: reject
# note: the call itself
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
while libc.syscall(56, 17, 0, 0, 0, 0) >= 0:
    pass
print('refused')
