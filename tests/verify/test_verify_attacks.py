"""No program of tests/attacks fools, hangs, damages or escapes the judge, in either tier."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "support" / "verify_attacks.py"
CONTAIN = """
while read -r _ place _; do mount -o remount,bind,ro "$place" 2>/dev/null; done < /proc/mounts
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp || exit 99
mount -t tmpfs -o size=64m tmpfs /dev/shm || exit 99
cd /tmp; ulimit -c 0; ulimit -n 1024; ulimit -u 8192 2>/dev/null
exec "$@"
"""


def contained(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in namespaces of its own, with everything but a fresh /tmp read-only."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no outer containment: the program `unshare` is missing")
    if Path("/tmp") in (*RUNNER.resolve().parents, *Path(sys.prefix).resolve().parents):
        pytest.skip("no outer containment: it covers /tmp, where this repository or its Python lies")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    flags = [
        "--mount",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    done = subprocess.run(
        [unshare, *user, *flags, "bash", "-c", CONTAIN, "contain", *command],
        capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"},
    )  # fmt: skip
    if done.returncode in (1, 99) and "unshare" in done.stderr:
        pytest.skip(f"no outer containment: {done.stderr.strip()}")
    return done


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["namespaces", "bare"])
def test_every_attack_is_judged_right(tier: str) -> None:
    done = contained(sys.executable, str(RUNNER), tier)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["count"] >= 80
    assert (found["wrong"], found["canaries"], found["left"], found["lost"]) == ([], [], 0, 0)
