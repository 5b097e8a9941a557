"""What an installation holds: every file that the program reads is in the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "acereason"
MADE = {".py", ".pyc", ".so"}


def test_every_data_file_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["acereason"]
    packaged = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    data = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in MADE}
    assert len(data) > 30 and data <= packaged, sorted(map(str, data - packaged))
