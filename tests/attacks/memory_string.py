# class: resource
# kind: both
# must: reject
# note: 
print(len('z' * (1 << 36)))
