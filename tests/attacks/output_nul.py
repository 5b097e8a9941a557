# class: output
# kind: stdin
# must: reject
# note: 
print('\0' * 100)
