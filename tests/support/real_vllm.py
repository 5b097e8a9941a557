"""Real vLLM servers in an environment of their own, for tests that start, kill and restart them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

PYTHON = os.environ.get("ACEREASON_TEST_SERVER_PYTHON", "")
ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parents[2] / "src"),  # the worker extension; needs nothing else of ours
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
OPTIONS = (
    *("--dtype", "float32", "--enforce-eager", "--logprobs-mode", "processed_logprobs"),
    # vLLM 0.32 on CPU dies of a seeded request whose prompt is prefilled in chunks
    *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192", "--max-model-len", "256"),
    *("--worker-extension-cls", "acereason.sample.vllm_worker.Published", "--host", "127.0.0.1"),
    *("--weight-transfer-config", '{"backend": "acereason_stream"}'),
)


class Served:
    """A server process; `core` is the processor it computes on."""

    def __init__(self, model: Path, log: Path, core: int = 0, *more: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log, self.core, self.more = log, core % (os.cpu_count() or 1), more
        self.start(model)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, model: Path) -> None:
        """Start on the same port; see `wait`."""
        command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        command += ["--served-model-name", "tiny", "--port", str(self.port), *OPTIONS, *self.more]
        environment = os.environ | ENVIRONMENT | {"VLLM_CPU_OMP_THREADS_BIND": str(self.core)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd="/", start_new_session=True
            )

    def wait(self, seconds: float = 420.0) -> None:
        """Until it answers; AssertionError with the end of its log when it does not."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError(f"vLLM did not start; the end of {self.log}:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL to the whole process group: nothing is said, nothing is cleaned up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
