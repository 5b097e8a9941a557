# class: resource
# kind: both
# must: reject
# note: 
import multiprocessing
p = multiprocessing.Process(target=print)
p.start()
p.join()
