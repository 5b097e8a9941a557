# class: escape
# kind: both
# must: reject
# note: 
import ctypes
print(ctypes.CDLL(None).unshare(0x10000000))
