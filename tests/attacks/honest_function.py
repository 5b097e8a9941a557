# class: honest
# kind: call
# must: accept
# note: a bare function
def difference(a, b):
    return a - b
