# class: resource
# kind: both
# must: reject
# note: 
x = []
while True:
    x.append([0] * (1 << 20))
