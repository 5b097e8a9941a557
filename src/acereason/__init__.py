"""acereason: the post-training recipe of AceReason-Nemotron 1.1, whole.

A problem is asked, answered, judged, and learned from. Each step on that way has one room (module);
`docs/house.md` draws them. Importing this package imports no heavy dependency.
"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.frames import load_run as load_run


def __getattr__(name: str) -> Any:
    if name == "load_run":
        from acereason.frames import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
