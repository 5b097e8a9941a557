"""Two hosts on one machine: network namespaces a and b with a link between them, which can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCRIPT = str(Path(__file__).with_name("host_of_two.py"))
ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2"}
PORT = 18000


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def possible() -> bool:
    """Whether this machine lets us make network namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    made = subprocess.run(["ip", "netns", "add", "acereason-probe"], capture_output=True)
    subprocess.run(["ip", "netns", "del", "acereason-probe"], capture_output=True)
    return made.returncode == 0


class Hosts:
    """Processes on the hosts, by what they are: ("server", "a"), ("rank", "b", 3)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, dict[tuple[Any, ...], subprocess.Popen[bytes]]()
        self.name = {host: f"acereason-{os.getpid()}-{host}" for host in ADDRESS}

    def start(self, host: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        own = {"OMP_NUM_THREADS": "1", "ACEREASON_NATIVE": "0", "GLOO_SOCKET_IFNAME": "eth0", **environment}
        log = self.folder / f"{words[0]}-{host}-{environment.get('RANK', '')}.log"
        command = ["ip", "netns", "exec", self.name[host], sys.executable, SCRIPT, *words]
        with log.open("ab") as out:
            return subprocess.Popen(command, env=os.environ | own, stdout=out, stderr=out)

    def server(self, host: str, model: Path) -> None:
        """Start a host's server, and wait until it listens."""
        self.processes["server", host] = self.start(host, "server", str(model), ADDRESS[host], str(PORT))
        until = time.monotonic() + 240
        probe = f"import urllib.request as u; u.urlopen('http://{ADDRESS[host]}:{PORT}/health', timeout=3)"
        look = ["ip", "netns", "exec", self.name[host], sys.executable, "-S", "-c", probe]
        while subprocess.run(look, capture_output=True).returncode:
            assert time.monotonic() < until and self.processes["server", host].poll() is None
            time.sleep(1)

    def ranks(self, hosts: str, run: Path, recipe: Path, port: int) -> None:
        """Start two ranks on each host, as `docs/cluster.md` does under Slurm."""
        world = 2 * len(hosts)
        for number in range(world):
            host, local = hosts[number // 2], number % 2
            where = {"RANK": number, "LOCAL_RANK": local, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": 2}
            where |= {"MASTER_ADDR": ADDRESS["a"], "MASTER_PORT": port}  # type: ignore[dict-item]
            started = self.start(host, "rank", str(run), str(recipe), **{k: str(v) for k, v in where.items()})
            self.processes["rank", host, number] = started

    def kill(self, *which: Any) -> None:
        """SIGKILL to every process whose key begins so."""
        for key in [k for k in self.processes if k[: len(which)] == which]:
            process = self.processes.pop(key)
            process.kill()
            process.wait(30)

    def of(self, kind: str) -> list[subprocess.Popen[bytes]]:
        return [process for key, process in self.processes.items() if key[0] == kind]

    def ended(self, seconds: float) -> list[int]:
        """The exit codes of all ranks, which must come in time."""
        codes = [process.wait(seconds) for process in self.of("rank")]
        self.processes = {k: p for k, p in self.processes.items() if k[0] != "rank"}
        return codes

    def link(self, state: str) -> None:
        """Cut the network ("down"), or mend it ("up")."""
        ip("-n", self.name["b"], "link", "set", "eth0", state)


@contextlib.contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    """Two hosts that reach each other; everything on them ends with the block."""
    made = Hosts(folder)
    try:
        for host in ADDRESS:
            ip("netns", "add", made.name[host])
        a, b = (made.name[host] for host in "ab")
        ip("-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b)
        for host, address in ADDRESS.items():
            ip("-n", made.name[host], "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", made.name[host], "link", "set", device, "up")
        yield made
    finally:
        made.kill()
        for host in ADDRESS:
            subprocess.run(["ip", "netns", "del", made.name[host]], capture_output=True)
