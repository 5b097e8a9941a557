# class: fake
# kind: stdin
# must: reject
# note: knows one answer
print(864197)
