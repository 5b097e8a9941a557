# class: process
# kind: both
# must: reject
# note: threads that do not share their table of descriptors, their folder or their memory
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
shared = 0x50F00
for left_out in (0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000):
    number = libc.syscall(56, ctypes.c_long(shared & ~left_out), None, None, None, None)
    if number >= 0:
        raise RuntimeError(f"GOT {number} without {left_out:#x}")
raise SystemExit("held")
