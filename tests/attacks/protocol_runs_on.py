# class: protocol
# kind: both
# must: reject
# note: comes back out of the child's function into the zygote's loop
import os, sys
os._exit = lambda *_: None
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()):
        if name in ("channel", "setup", "order", "descriptors"):
            try:
                value.send(b'{"job": 1, "status": 0, "wall": 0, "cpu": 0, "waited": 0}')
            except Exception:
                pass
    frame = frame.f_back
