# class: escape
# kind: both
# must: reject
# note: 
import os
os.setuid(0)
print(os.getuid())
