"""Files as people have them: which of them hold data, and their bytes, unpacked and recognised.

What a file is follows from how it begins, never from its name alone. What is no data and often stands in its
place is named as what it is: a pointer of Git LFS, a page of HTML, an archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from acereason.errors import DataError

KINDS = (".jsonl", ".json", ".ndjson", ".parquet", ".csv", ".tsv")
PACKED = ("", ".gz", ".bz2", ".xz")
SUFFIXES = tuple(kind + packed for kind in KINDS for packed in PACKED)
ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}  # of a hub's folder
PEEK = 4096
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_NOT_DATA = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"PK\x03\x04": "a zip archive: unpack it and name the file in it",
    b"(\xb5/\xfd": "packed by zstandard: unpack it with `zstd -d`",
    b"ARROW1": "an Arrow file: write it as Parquet",
    b"\xff\xff\xff\xff": "a stream of Arrow: write it as Parquet",
    b"\x89HDF": "an HDF5 file: write it as Parquet or JSON Lines",
    b"7z\xbc\xaf": "a 7z archive: unpack it and name the file in it",
    b"Rar!": "a RAR archive: unpack it and name the file in it",
    b"SQLite format 3": "a database of SQLite: write its table as CSV",
    b"\x93NUMPY": "an array of numpy: write it as Parquet or JSON Lines",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV",
    **{
        bytes([128, version]): "a pickle, which could run a program: write it as JSON Lines"
        for version in range(2, 6)
    },
}
_BOOK = "an Excel workbook: save it as CSV"
_TEXTS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def is_data(path: Path) -> bool:
    """Whether a file of a folder holds rows, by its name."""
    return path.name.endswith(SUFFIXES) and path.name not in ABOUT and path.is_file()


def find_files(where: str, pattern: str = "*", revision: str | None = None) -> list[Path]:
    """The data files of a local file or folder, or of a hub id, which is downloaded first."""
    path = Path(where).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        path = _download(where, pattern, revision)
    files = sorted(p for p in path.rglob(pattern) if is_data(p))
    if not files:
        raise DataError(f"{where}: expected {', '.join(KINDS)} files like {pattern}, found none")
    return files


def commit_of(files: Iterable[Path]) -> str | None:
    """The commit of files that came from a hub; None for local ones."""
    for path in files:
        name, _, rest = str(path).partition("/snapshots/")[2].partition("/")
        if rest and len(name) == 40:
            return name
    return None


def _download(where: str, pattern: str, revision: str | None) -> Path:
    if where.count("/") != 1 or where.startswith((".", "/", "~")) or where.endswith(SUFFIXES):
        raise DataError(f"{where}: no such file or folder")
    from huggingface_hub import snapshot_download

    named = pattern.endswith(SUFFIXES)  # the data alone: no pictures, no scripts
    patterns = [pattern] if named else [f"{pattern}{suffix}" for suffix in SUFFIXES]
    try:
        folder = snapshot_download(where, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except Exception as error:  # the library raises a dozen kinds, none of ours
        raise DataError(
            f"{where}: no such file or folder here, and as a data set of the hub it cannot be "
            f"downloaded: {error}"
        ) from error
    return Path(folder)


def opened(path: Path) -> tuple[BinaryIO, bytes]:
    """The unpacked bytes of a file from their beginning, and the first of them; UTF-16 becomes UTF-8, a mark
    of byte order is skipped. DataError for what holds no rows."""
    with path.open("rb") as plain:
        magic = plain.read(8)
    opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
    file: BinaryIO = path.open("rb") if opener is None else opener(path)
    try:
        return _begun(path, file)
    except BaseException:
        file.close()
        raise


def _begun(path: Path, file: BinaryIO) -> tuple[BinaryIO, bytes]:
    head = file.read(PEEK)
    _refuse(path, head)
    if (wide := _wide(head)) is not None:
        file.seek(0)
        with file:
            file = io.BytesIO(_recoded(path, file.read(), wide))
        head = file.read(PEEK)
        _refuse(path, head)
    skip = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    file.seek(skip)
    return file, head[skip:]


def _wide(head: bytes) -> str | None:
    """The encoding of a text whose characters take two or four bytes, by its mark or by its zeros."""
    if marked := next((name for mark, name in _TEXTS.items() if head.startswith(mark)), None):
        return marked
    begin = head[:64]
    evens, odds = begin[::2].count(0), begin[1::2].count(0)
    if len(begin) < 8 or max(evens, odds) < len(begin) // 3 or min(evens, odds) > len(begin) // 16:
        return None
    return "utf-16-le" if odds > evens else "utf-16-be"


def _recoded(path: Path, data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} begins as {encoding.upper()} and is none: {error}") from error


def _refuse(path: Path, head: bytes) -> None:
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what in _NOT_DATA.items():
        if head.startswith(start):
            book = start == b"PK\x03\x04" and path.suffix in (".xlsx", ".xlsm", ".ods")
            raise DataError(f"{path} is {_BOOK if book else what}")
    if head[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive: unpack it and name the file in it")
    if begin.startswith(b"<"):
        what = "a page of HTML" if b"<html" in begin.lower() or b"<!doctype" in begin.lower() else "XML"
        raise DataError(f"{path} is {what}, not data: fetch the raw file")
    if not begin:
        raise DataError(f"{path} is empty")
