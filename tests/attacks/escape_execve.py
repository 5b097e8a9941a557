# class: escape
# kind: both
# must: reject
# note: 
import os
os.execve('/bin/sh', ['sh', '-c', 'touch /tmp/canary_exec'], {})
