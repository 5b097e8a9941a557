# class: crash
# kind: both
# must: reject
# note: 
x = '\x00'
eval('1\x00')
