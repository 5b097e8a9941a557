"""acereason: the post-training recipe of AceReason-Nemotron 1.1, whole.

A problem is asked, answered, judged, and learned from. Each step on that way has one room (module);
`docs/house.md` draws them. Importing this package imports no heavy dependency.
"""

__version__ = "0.1.0"
