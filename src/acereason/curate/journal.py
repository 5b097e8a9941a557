"""Files that only grow: a line of JSON with a `key` for everything that must not be done twice.

A line counts once it has its end, so what a kill left half written is cut off at the next start and
owed again. In memory stays, for each line, its key and where it begins: about 150 bytes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from acereason.errors import RunError


class _Key(msgspec.Struct):
    key: str


def index_lines(path: Path) -> dict[str, int]:
    """Where the first line of each key begins; a torn last line is cut off the file. RunError for a
    line that is none."""
    if not path.exists():
        return {}
    places: dict[str, int] = {}
    decoder, at = msgspec.json.Decoder(_Key), 0
    with path.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(at)
                break
            try:
                places.setdefault(decoder.decode(line).key, at)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RunError(f"{path} is damaged at byte {at:,}: {error}") from error
            at += len(line)
    return places
