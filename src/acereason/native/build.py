"""Small C and C++ libraries, compiled on the user's machine the first time they are wanted.

A library lives in a cache folder under a name that hashes its source, the compiler, the flags and
the processor's features, so a copied home directory or a new compiler never loads a stale one.
What is loaded runs with the user's rights, so the cache is believed only where nobody else can have put
it: a folder and files of this user that others cannot write, each with the hash it was made with beside
it. A library that is torn, foreign or changed is compiled again. Nothing here raises: a machine without a
compiler, or with such a folder, gets `None` and a reason, and the caller falls back to PyTorch. The
folder is `$ACEREASON_CACHE`, else `$XDG_CACHE_HOME/acereason`, else `~/.cache/acereason`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMPILE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Built:
    """`path` of a library that can be loaded, or None and the `reason` in one line."""

    path: Path | None
    reason: str


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    if own := os.environ.get("ACEREASON_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "acereason"


@functools.cache
def processor() -> str:
    """The processor's model and features, as far as they decide what `-march=native` means."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "model name", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join([platform.machine(), *(x for x in lines if x.startswith(wanted))])


@functools.cache
def _version(compiler: str) -> str:
    shown = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=20, check=True)
    return shown.stdout


def native_source(name: str) -> str:
    """The text of a file in `native/`, with the headers beside it put in place."""
    folder = Path(__file__).parent
    text = (folder / name).read_text()
    text = re.sub(r'#include "(.+)"', lambda include: (folder / include[1]).read_text(), text)
    return text.replace("#pragma once\n", "")


def architecture() -> str:
    """The processor that native code is compiled for: `$ACEREASON_NATIVE_ARCH`, as the compiler's -march
    takes it (x86-64-v3 for AVX2, x86-64-v4 for AVX-512), or "portable"; else this machine's own."""
    return os.environ.get("ACEREASON_NATIVE_ARCH") or "native"


def build_native(name: str, architecture: str) -> Built:
    """Compile `native/NAME.cpp` for an architecture; see `build`."""
    march = () if architecture == "portable" else (f"-march={architecture}",)
    flags = ("-std=gnu++17", "-O3", "-ffp-contract=fast", "-pthread", "-Wno-psabi", "-Wno-unused-function")
    return build(name, native_source(f"{name}.cpp"), "c++", (*flags, *march))


def find_compiler(language: str) -> str | None:
    """Path of a C ("c") or C++ ("c++") compiler: `$CC`/`$CXX`, else the usual names."""
    own = os.environ.get("CXX" if language == "c++" else "CC")
    names = ("g++", "c++", "clang++") if language == "c++" else ("gcc", "cc", "clang")
    paths = (shutil.which(name) for name in ((own,) if own else names))
    return next((path for path in paths if path), None)


def build(name: str, source: str, language: str, flags: tuple[str, ...]) -> Built:
    """Compile `source` to a shared library unless the cache has it already. Never raises."""
    compiler = find_compiler(language)
    if compiler is None:
        return Built(None, f"no {'C++' if language == 'c++' else 'C'} compiler was found")
    try:
        text = "\0".join((source, compiler, _version(compiler), *flags, processor()))
        digest = hashlib.sha256(text.encode()).hexdigest()[:20]
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = folder.resolve()
        if not _own(folder, stat.S_ISDIR):
            return Built(None, f"{folder} has to be this user's, and not writable by others (chmod go-w)")
        path = folder / f"{name}-{digest}.so"
        if _intact(path):
            return Built(path, "found in the cache")
        return _compile(path, compiler, source, language, flags)
    except (OSError, subprocess.SubprocessError) as error:
        return Built(None, f"compiling {name} failed: {error}")


def _own(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path is what it should be, no link, and only this user can have written it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _sum_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _intact(path: Path) -> bool:
    """Whether a library is there, our own, and as it was compiled."""
    own = all(_own(file, stat.S_ISREG) for file in (path, _sum_file(path)))
    return own and _sum_file(path).read_text().strip() == hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(path: Path, compiler: str, source: str, language: str, flags: tuple[str, ...]) -> Built:
    """Compile beside the final place and rename, so that two processes may do it at once."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, "-x", language, "-shared", "-fPIC", *flags, "-o", str(made), "-"]
        result = subprocess.run(
            command, input=source, capture_output=True, text=True, timeout=COMPILE_SECONDS
        )
        if result.returncode:
            first = next(iter(result.stderr.strip().splitlines()), "no message")
            return Built(None, f"{compiler} ended with status {result.returncode}: {first}")
        made.chmod(0o700)
        _sum_file(made).write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        _sum_file(made).chmod(0o600)
        made.replace(path)
        _sum_file(made).replace(_sum_file(path))
    return Built(path, f"compiled by {compiler}")


def load(built: Built, mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL | None:
    """The loaded library, or None when there is none or the loader refuses it."""
    if built.path is None:
        return None
    try:
        return ctypes.CDLL(str(built.path), mode=mode)
    except OSError:
        return None
