"""The machine of a recipe: servers that answer, a sandbox that holds, room on the disk and in memory."""

from __future__ import annotations

import importlib.util
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from acereason import machine
from acereason.config import Recipe
from acereason.errors import ConfigError, SandboxUnavailable
from acereason.plan import disk as plan
from acereason.plan import shapes
from acereason.plan.memory import beside
from acereason.preflight.finding import Finding, Kind

SECONDS = 3.0  # for a server to answer
LEARNING = 16  # bytes a parameter: float32 weights, gradient and both moments of Adam


def servers(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """Every server that samples must answer."""
    wanted = recipe.sampling.servers
    if wanted is None:
        return
    if importlib.util.find_spec("httpx2") is None:
        yield Finding("error", "sampling.servers", "needs httpx2: pip install 'acereason[server]'")
    for url in wanted.urls:
        if reason := unreachable(url):
            yield Finding("error", "sampling.servers", f"{url} does not answer: {reason}")


def unreachable(url: str) -> str:
    """Why a server does not answer; empty when it does, whatever it says."""
    root = url.rstrip("/").removesuffix("/v1")
    try:
        with urllib.request.urlopen(f"{root}/health", timeout=SECONDS):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def judge(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """A sandbox for programs, and the slow path for math."""
    domains = {name for stage in recipe.stage for name in stage.domains} | set(recipe.curate.tasks)
    if "math" in domains and importlib.util.find_spec("math_verify") is None:
        yield Finding(
            "warning", "judge", "math-verify is not installed: what the exact rules leave open counts as "
            "wrong; pip install 'acereason[math]'"
        )  # fmt: skip
    if domains - {"math"}:
        from acereason.verify.code import Examiner

        examiner = Examiner()
        try:
            examiner.zygote()
        except SandboxUnavailable as error:
            yield Finding("error", "judge", str(error))
        finally:
            examiner.close()


def parameters(recipe: Recipe) -> int | None:
    """The model's parameters; None when its shape is not known here."""
    try:
        return shapes.of(recipe.model).parameters
    except ConfigError:
        return None


def disk(recipe: Recipe, folder: Path) -> Iterator[Finding]:
    """Room for what the run's folder will hold."""
    size, files = parameters(recipe), recipe.curate.files
    if size is None:
        return
    traces = Path(files.traces).expanduser() if files is not None and files.traces is not None else None
    parts = plan.needed(recipe, size, traces.stat().st_size if traces is not None and traces.is_file() else 0)
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    least = parts["checkpoints"] + parts["models"]
    kind: Kind = "error" if free < least else "warning" if free < sum(parts.values()) else "note"
    yield Finding(kind, "disk", f"{plan.said(parts)}; free at {there}: {plan.said_size(free)}")


def memory(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """Room for weights, gradient and Adam's moments, when the model learns in this machine's memory."""
    size, free = parameters(recipe), machine.available()
    if size is None or free is None or recipe.placement.device == "cuda" or _has_gpu():
        return
    wide = 4 if recipe.model.dtype == "float32" else 2
    needed = size * LEARNING * wide // 4 + (size * wide if beside(recipe) else 0)
    if needed > free:
        yield Finding(
            "error", "memory", f"{needed / 1e9:,.1f} GB are needed to learn {size / 1e9:.1f} billion "
            f"parameters, {free / 1e9:,.1f} GB are free; take a smaller model or another machine "
            "(`acereason plan`)"
        )  # fmt: skip


def _has_gpu() -> bool:
    return Path("/dev/nvidia0").exists()
