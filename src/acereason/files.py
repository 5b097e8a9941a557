"""Files that are whole or not there: JSON Lines of records, atomic replacement, locks.

What is written here is on the disk before it takes its name, so a reader, a run that resumes after a kill, or
one after a power cut sees the old content or the new one and nothing between.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Generic, TypeVar

import msgspec

from acereason.errors import DataError, RunError

Record = TypeVar("Record")
_encoder = msgspec.json.Encoder()


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A file to read. OSError for what is none: opening a pipe in its place would wait for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, as `open_file` opens it."""
    with open_file(path) as file:
        return file.read()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_jsonl(path: str | os.PathLike[str], kind: type[Record]) -> Iterator[Record]:
    """Yield the records of a JSON Lines file; DataError names the line that does not fit."""
    path = Path(path)
    decoder = msgspec.json.Decoder(kind)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(
                    f"{path}, line {number}: expected a {kind.__name__} record, {error}"
                ) from error


class Records(Generic[Record]):
    """The records of a JSON Lines file, read anew each time that they are walked through; never all held."""

    def __init__(self, path: Path, kind: type[Record]):
        self.path, self.kind = path, kind

    def __iter__(self) -> Iterator[Record]:
        return read_jsonl(self.path, self.kind)

    def __len__(self) -> int:
        with self.path.open("rb") as file:
            return sum(not line.isspace() for line in file)


def to_jsonl(records: Iterable[object]) -> bytes:
    """The records as the bytes of a JSON Lines file."""
    return _encoder.encode_lines(list(records))


def write_jsonl(path: str | os.PathLike[str], records: Iterable[object]) -> None:
    """Write records as JSON Lines, atomically; they are taken one by one."""
    with replacing(Path(path)) as file:
        for record in records:
            file.write(_encoder.encode(record) + b"\n")


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a run resumed after a kill, sees the old or the new content whole."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """`sync` of a folder with everything in it."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


class replacing:
    """A file that takes its name only when it is complete and on the disk. One writer at a time."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.tmp")

    def __enter__(self) -> BinaryIO:
        self.file = self.temporary.open("wb", buffering=1 << 20)
        return self.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        if kind is None:
            self.temporary.replace(self.target)
            sync(self.target.parent)
        else:
            self.temporary.unlink()


def lock(path: Path) -> IO[bytes]:
    """Hold a file's lock until what is returned is closed; RunError when another process holds it."""
    try:
        file = path.open("ab")
    except OSError as error:
        raise RunError(f"cannot open {path}: {error.strerror}") from error
    try:
        own(file, path)
    except RunError:
        file.close()
        raise
    return file


def own(file: IO[Any], path: Path) -> None:
    """Lock an open file; RunError when another process holds it. Ends when the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(
            f"{path} is in use by another process; wait for it, stop it or take another folder"
        ) from error
