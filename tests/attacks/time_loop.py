# class: time
# kind: both
# must: reject
# note: 
while True:
    pass
