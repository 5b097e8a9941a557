# class: fake
# kind: stdin
# must: reject
# note: reads its own memory
data = open('/proc/self/mem', 'rb', 0)
print(len(data.read(16)))
