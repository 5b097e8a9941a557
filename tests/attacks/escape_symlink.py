# class: escape
# kind: both
# must: reject
# note: 
import os
os.symlink('/etc/passwd', '/tmp/canary_link')
