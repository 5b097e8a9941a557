# class: escape
# kind: both
# must: reject
# note: 
import os
os.system('touch /tmp/canary_shell')
print('tried')
