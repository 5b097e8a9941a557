# class: escape
# kind: both
# must: reject
# note: 
import os, signal
os.kill(os.getppid(), signal.SIGKILL)
print('killed')
