# class: time
# kind: both
# must: reject
# note: 
import signal
signal.pause()
