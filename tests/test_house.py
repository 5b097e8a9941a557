"""The house's own rules (docs/house.md): sizes, floors, no circle of imports."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "acereason"
MOST = 400  # lines of a file


@cache
def modules() -> dict[str, Path]:
    """The package's modules by their names."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """The package's modules that a module imports anywhere; what only type checkers read is left out."""
    known = modules()
    return frozenset(_imported(ast.parse(known[name].read_text()), known)) - {name}


def _imported(node: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    if isinstance(node, ast.ImportFrom) and node.module:
        whole = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from {module if module in known else node.module for module in whole} & known.keys()
    for child in ast.iter_child_nodes(node):
        yield from _imported(child, known)


def floors() -> dict[str, int]:
    """The floor of every room in docs/house.md."""
    rows = re.findall(r"^\| (\d) \| ([^|]*) \|", (ROOT / "docs" / "house.md").read_text(), re.MULTILINE)
    return {room.rstrip("/"): int(floor) for floor, rooms in rows for room in re.findall(r"`([^`]+)`", rooms)}


def room_of(module: str, rooms: dict[str, int]) -> str | None:
    """The innermost room that a module stands in."""
    parts = module.split(".")[1:]
    names = ("/".join(parts[:i]) for i in range(len(parts), 0, -1))
    return next((name for name in names if name in rooms), None)


def test_files_are_small() -> None:
    parts = (ROOT / part for part in ("src", "tests", "benchmarks", "examples"))
    files = [p for part in parts for p in part.rglob("*.py") if "attacks" not in p.parts]
    lines = {str(path): len(path.read_text().splitlines()) for path in files}
    assert not {path: n for path, n in lines.items() if n > MOST}
    assert statistics.median(lines.values()) < 150


def test_every_room_is_named_and_every_name_is_a_room() -> None:
    rooms, known = floors(), modules().keys() - {"acereason", "acereason.__main__"}
    assert not {module for module in known if room_of(module, rooms) is None}
    assert not {room for room in rooms if f"acereason.{room.replace('/', '.')}" not in known}


def test_a_room_imports_only_from_its_floor_and_those_below() -> None:
    rooms = floors()
    above = [
        f"{module} (floor {rooms[own]}) imports {other} (floor {rooms[theirs]})"
        for module in modules()
        if (own := room_of(module, rooms)) is not None
        for other in imports(module)
        if (theirs := room_of(other, rooms)) is not None and rooms[theirs] > rooms[own]
    ]
    assert not above, "\n".join(above)


def test_no_module_imports_in_a_circle() -> None:
    try:
        list(TopologicalSorter({module: imports(module) for module in modules()}).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")
