# class: escape
# kind: both
# must: reject
# note: 
import os, json
path = os.path.join(os.path.dirname(json.__file__), '__pycache__', 'canary.pyc')
open(path, 'wb').write(b'x')
