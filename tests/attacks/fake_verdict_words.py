# class: fake
# kind: both
# must: reject
# note: 
print('OK')
print('All tests passed')
print('{"passed": true}')
