# class: escape
# kind: both
# must: reject
# note: 
print(open('/proc/self/environ').read() + open('/proc/1/environ').read())
