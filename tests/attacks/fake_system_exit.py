# class: fake
# kind: both
# must: reject
# note: 
raise SystemExit(0)
