# class: time
# kind: both
# must: reject
# note: 
import re
re.match(r'(a+)+$', 'a' * 64 + 'b')
