# class: escape
# kind: both
# must: reject
# note: 
import ctypes
r = ctypes.CDLL(None).syscall(425, 8, bytes(256))
if r >= 0:
    open('/tmp/canary_uring', 'w')
print('tried')
