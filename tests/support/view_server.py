"""The page's server as a user starts it, for tests."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The address of `acereason view folder`, which ends with the block."""
    command = [sys.executable, "-m", "acereason.cli", "view", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stdout.read()
        yield found[0]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
