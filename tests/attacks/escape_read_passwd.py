# class: escape
# kind: both
# must: reject
# note: 
print(open('/etc/passwd').read())
