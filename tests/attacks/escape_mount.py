# class: escape
# kind: both
# must: reject
# note: 
import ctypes
print(ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None))
