# class: escape
# kind: both
# must: reject
# note: 
import os
print(os.listdir(os.path.expanduser('~')), os.listdir('/root'), os.listdir('/home'))
