# class: escape
# kind: both
# must: reject
# note: limits of the parent, and its own back up
import os, resource
resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
