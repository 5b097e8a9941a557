# class: time
# kind: call
# must: reject
# note: answers right after three times its limit, with clocks that say it took none
import time
began = time.process_time()
clock = time.process_time_ns
time.process_time_ns = lambda: 0
def difference(a, b):
    while clock() < (began + 1.5) * 1e9:
        pass
    return a - b
