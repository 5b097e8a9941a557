# class: resource
# kind: both
# must: reject
# note: 
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
args = (ctypes.c_uint64 * 11)()
args[4] = 17
if libc.syscall(435, args, 88) == 0:
    open('/tmp/canary_clone3', 'w')
print('refused')
