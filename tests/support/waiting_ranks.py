"""A rank of two: `waiting_ranks.py GRACE`, with the ranks' environment. Rank 1 is killed; rank 0 waits for it
in the first collective of a sharded checkpoint, which makes a group."""

from __future__ import annotations

import os
import signal
import sys

import torch.distributed as dist

from acereason import lifeline, ranks

lifeline.GRACE = float(sys.argv[1])
with ranks.joined():
    if ranks.main():
        print("waiting", flush=True)
        dist.new_group(backend="gloo")
    else:
        os.kill(os.getpid(), signal.SIGKILL)
