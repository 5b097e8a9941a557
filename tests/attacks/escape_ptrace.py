# class: escape
# kind: both
# must: reject
# note: 
import ctypes, os
print(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))
