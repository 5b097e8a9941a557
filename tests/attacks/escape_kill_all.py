# class: escape
# kind: both
# must: reject
# note: 
import os
os.kill(-1, 9)
print('killed')
