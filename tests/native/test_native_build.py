"""The cache of compiled libraries believes only what this user made, and mends what is broken."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from acereason.native.build import Built, build, find_compiler, load

pytestmark = pytest.mark.skipif(find_compiler("c") is None, reason="no C compiler")
SOURCE = "int answer(void) { return 42; }"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ACEREASON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def built() -> Built:
    return build("answer", SOURCE, "c", ("-O0",))


def answer(library: Built) -> int:
    loaded = load(library)
    assert loaded is not None, library.reason
    return int(loaded.answer())


def library(cache: Path) -> Path:
    return next(cache.glob("*.so"))


def test_a_library_is_compiled_once(cache: Path) -> None:
    assert built().reason.startswith("compiled")
    assert built().reason == "found in the cache"
    assert answer(built()) == 42
    assert cache.stat().st_mode & 0o777 == 0o700
    assert sorted(path.suffix for path in cache.iterdir()) == [".sha256", ".so"]


def cut(path: Path) -> None:
    os.truncate(path, 100)


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def others_may_write(path: Path) -> None:
    path.chmod(0o777)


def link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def without_hash(path: Path) -> None:
    path.with_suffix(".sha256").unlink()


def other_hash(path: Path) -> None:
    path.with_suffix(".sha256").write_text("0" * 64)


def foreign(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "spoil", [cut, change, others_may_write, link, without_hash, other_hash, foreign, Path.unlink]
)
def test_what_cannot_be_believed_is_compiled_again(cache: Path, spoil: object) -> None:
    built()
    spoil(library(cache))  # type: ignore[operator]
    again = built()
    assert again.reason.startswith("compiled"), again
    assert built().reason == "found in the cache"
    assert answer(again) == 42


def test_a_folder_that_others_can_write_is_refused(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    assert built().path is None and "chmod" in built().reason
    cache.chmod(0o700)
    assert answer(built()) == 42


def test_a_folder_of_another_user_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    assert built().path is None and "this user's" in built().reason


def test_a_link_is_as_good_as_the_folder_behind_it(cache: Path) -> None:
    real = cache.parent / "real"
    real.mkdir(mode=0o700)
    cache.symlink_to(real)
    assert answer(built()) == 42
    real.chmod(0o777)
    assert built().path is None


def test_many_may_compile_at_once(cache: Path) -> None:
    found: list[Built] = []
    threads = [threading.Thread(target=lambda: found.append(built())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer(one) for one in found} == {42}
    assert built().reason == "found in the cache"
