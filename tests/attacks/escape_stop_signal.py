# class: escape
# kind: both
# must: reject
# note: stops itself
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
print('went on')
