# class: escape
# kind: both
# must: reject
# note: 
import ctypes, os
fd = ctypes.CDLL(None).syscall(319, b'x', 0)
os.write(fd, b'#!/bin/sh\ntouch /tmp/canary_memfd\n')
os.execve(fd, ['x'], {})
