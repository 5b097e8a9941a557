# class: escape
# kind: both
# must: reject
# note: poisons the interpreter for later programs
import json
open(json.__file__, 'a').write('\nraise SystemExit\n')
