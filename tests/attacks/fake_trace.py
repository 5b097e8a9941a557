# class: fake
# kind: call
# must: reject
# note: a trace function that changes results
import sys
def tracer(frame, event, arg):
    for name in list(frame.f_locals):
        if 'error' in name:
            frame.f_locals[name] = None
    return tracer
sys.settrace(tracer)
class Solution:
    def difference(self, a, b):
        return None
