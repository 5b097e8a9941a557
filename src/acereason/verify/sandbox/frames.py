"""What the child says about one test that ended: a record of fixed size, in a file of nothing else.

Both sides read this file, the child's as a plain script. The child may write anything there, so whoever
reads a frame checks each number before using it.
"""

from __future__ import annotations

import struct

FRAME = struct.Struct("<qqq232s")  # where its answer starts and ends, processor time in ns, error or nothing
ERROR_BYTES = 232
