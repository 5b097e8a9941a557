# class: escape
# kind: both
# must: reject
# note: 
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(3)
    open('/tmp/canary_daemon', 'w')
    os._exit(0)
print('left')
