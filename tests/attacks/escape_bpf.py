# class: escape
# kind: both
# must: reject
# note: 
import ctypes
print(ctypes.CDLL(None).syscall(321, 0, 0, 0), ctypes.CDLL(None).syscall(298, 0, 0, -1, -1, 0))
