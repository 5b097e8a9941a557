# class: fake
# kind: call
# must: reject
# note: a truth value where a number is expected
def difference(a, b):
    return a - b or False
