# class: time
# kind: both
# must: reject
# note: 
import time
time.sleep(10 ** 6)
