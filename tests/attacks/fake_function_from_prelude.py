# class: fake
# kind: call
# must: reject
# note: no program at all

