# class: escape
# kind: both
# must: reject
# note: types into the terminal
import fcntl
for c in 'id\n':
    fcntl.ioctl(0, 0x5412, c)
