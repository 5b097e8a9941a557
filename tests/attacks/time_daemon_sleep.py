# class: time
# kind: stdin
# must: reject
# note: waits on a lock for ever
import threading
lock = threading.Lock()
lock.acquire()
lock.acquire()
