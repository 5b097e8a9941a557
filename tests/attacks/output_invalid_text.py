# class: output
# kind: stdin
# must: reject
# note: 
import os
os.write(1, b'\xff\xfe\xfd')
