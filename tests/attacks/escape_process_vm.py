# class: escape
# kind: both
# must: reject
# note: 
import ctypes, os
print(ctypes.CDLL(None).syscall(310, os.getppid(), 0, 0, 0, 0, 0))
