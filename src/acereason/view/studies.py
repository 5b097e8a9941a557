"""The findings below a folder, as `acereason study` wrote them: result files only, nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from acereason.view.tail import Row, decode

DEPTH = 2  # folders down
LARGEST = 4 << 20  # bytes of a file that is still read
NAME = "findings.json"


def studies(root: Path) -> Row:
    """Every findings.json at or below `root`: its place and its studies. Broken files are left out."""
    listed = [
        {"place": path.parent.relative_to(root).as_posix(), "studies": rows} for path, rows in _read(root)
    ]
    return {"folder": str(root), "findings": listed}


def _read(root: Path) -> Iterator[tuple[Path, list[Row]]]:
    for depth in range(DEPTH + 1):
        for path in sorted(root.glob("/".join(["*"] * depth + [NAME]))):
            try:
                large = not path.is_file() or path.stat().st_size > LARGEST
                value = None if large else decode(path.read_bytes())
            except OSError:
                continue
            rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
            if rows:
                yield path, rows
