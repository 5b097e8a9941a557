# class: crash
# kind: both
# must: reject
# note: 
def f(:
  pass
