# class: time
# kind: both
# must: reject
# note: lies about its processor time
import time
time.process_time_ns = lambda: 0
time.process_time = lambda: 0.0
while True:
    pass
