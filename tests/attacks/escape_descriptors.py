# class: escape
# kind: both
# must: reject
# note: looks for what it inherited
import os
found = []
for fd in range(3, 1024):
    try:
        found.append((fd, os.fstat(fd).st_mode))
        os.write(fd, b'canary')
    except OSError:
        pass
print(found)
