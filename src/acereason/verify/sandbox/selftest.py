"""A handful of attacks that every sandbox must stop before it may judge anything.

Each program prints `held` when the confinement stopped it and something else when it did not. They
run in real children through the real path; one that gets through makes the whole sandbox
unavailable.
"""

from __future__ import annotations

from acereason.errors import SandboxUnavailable
from acereason.verify.sandbox.client import Limits, Lost, Zygote, job_bytes

_TRY = """
def attack():
{body}
try:
    attack()
    print("ESCAPED")
except (OSError, MemoryError):
    print("held")
"""
_LIBC = "import ctypes, os\n    if ctypes.CDLL(None).{call} >= 0: return\n    raise OSError"
ATTACKS = {
    "open a socket": "import socket; socket.socket()",
    "create a process": "import os\n    if os.fork() == 0: os._exit(0)",
    "execute a program": "import os; os.execv('/bin/sh', ['sh', '-c', 'true'])",
    "write a file": "open('/tmp/acereason-self-test', 'w')",
    "read a user's file": "open('/etc/passwd').read()",
    "read its parent's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb')",
    "read its environment": "open('/proc/self/environ', 'rb').read()",
    "signal its parent": "import os; os.kill(os.getppid(), 0)",
    "trace a process": _LIBC.format(call="ptrace(16, os.getppid(), 0, 0)"),
    "make a namespace": _LIBC.format(call="unshare(0x10000000)"),
    "use io_uring": _LIBC.format(call="syscall(425, 8, bytes(256))"),
    "take memory without end": "bytearray(1 << 34)",
}


def self_test(zygote: Zygote) -> None:
    """Run the attacks; SandboxUnavailable names the first that was not stopped."""
    limits = Limits(cpu=5.0, wall=30.0, memory=256)
    for name, body in ATTACKS.items():
        program = _TRY.format(body=f"    {body}")
        try:
            run = zygote.run(job_bytes(program, [""], None), 1, limits)
        except Lost as error:
            raise SandboxUnavailable(f"the sandbox died in its self-test ({name}): {error}") from error
        if run.output != b"held\n":
            zygote.kill()
            raise SandboxUnavailable(
                f"the sandbox's self-test failed: a program could {name}"
                f" (status {run.status}, output {run.output[:80]!r}); nothing was judged"
            )
