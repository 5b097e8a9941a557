# class: result
# kind: call
# must: reject
# note: a result of a million empty lists
def difference(a, b):
    return [[] for _ in range(1000000)]
