# class: protocol
# kind: both
# must: reject
# note: ends with the status and the words of a confinement that failed
import os
for fd in range(3, 64):
    try:
        os.write(fd, b"OSError: landlock_restrict_self: Operation not permitted")
    except OSError:
        pass
os._exit(71)
