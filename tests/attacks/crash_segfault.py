# class: crash
# kind: both
# must: reject
# note: 
import ctypes
ctypes.string_at(0)
