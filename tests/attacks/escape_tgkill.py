# class: escape
# kind: both
# must: reject
# note: 
import ctypes, os
libc = ctypes.CDLL(None)
p = os.getppid()
libc.syscall(234, p, p, 9)
print('tried')
