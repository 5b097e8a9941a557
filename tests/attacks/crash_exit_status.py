# class: crash
# kind: both
# must: reject
# note: the status of a failed confinement
import os
os._exit(71)
