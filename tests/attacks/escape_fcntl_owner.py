# class: escape
# kind: both
# must: reject
# note: has the kernel signal someone else
import fcntl, os
fcntl.fcntl(0, 8, os.getppid())
print('owned')
