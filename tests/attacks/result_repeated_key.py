# class: result
# kind: call
# must: reject
# note: the same key twice
def difference(a, b):
    return {1: a - b, "1": a - b}
