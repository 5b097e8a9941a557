"""The keys of a file of settings: assigned from the command line, checked against a typed struct, and errors
that say what could have been meant.

    assigned(data, ["sft.epochs=3"])   `--set` on plain data; a list's items are found by their `name`
    check(data, Recipe)                an unknown key is an error with the nearest known one
    valid(error, Recipe)               the words that a key may hold
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from acereason.errors import ConfigError


def assigned(data: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The data with assignments; the data given stay as they are."""
    data = copy.deepcopy(data)
    for setting in settings:
        assign(data, setting)
    return data


def blamed(
    data: dict[str, Any], settings: Sequence[str], parse: Callable[[dict[str, Any]], object]
) -> list[str]:
    """Those assignments without which the recipe can be read; all, when no single one is to blame, and none,
    when the recipe alone cannot be read either."""

    def readable(chosen: Sequence[str]) -> bool:
        try:
            parse(assigned(data, chosen))
        except ConfigError:
            return False
        return True

    if not readable([]):
        return []
    several = [s for i, s in enumerate(settings) if readable([*settings[:i], *settings[i + 1 :]])]
    return several or list(settings)


def assign(data: dict[str, Any], setting: str) -> None:
    """Apply one `a.b=c`; the value is TOML, or else a string; nothing after the = removes the key.
    `stage.NAME.key` finds the stage by name."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key=value, e.g. --set sft.epochs=3; found {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    node: Any = data
    for key in parents:
        node = _stage(node, key, setting) if isinstance(node, list) else node.setdefault(key, {})
        if not isinstance(node, dict | list):
            raise ConfigError(f"--set {setting}: {key!r} holds a value, not a section")
    if isinstance(node, list):
        raise ConfigError(f"--set {setting}: name the stage, as in stage.{node[0]['name']}.{last}=…")
    if text.strip():
        node[last] = value
    else:
        node.pop(last, None)


def _stage(stages: list[dict[str, Any]], name: str, setting: str) -> dict[str, Any]:
    for stage in stages:
        if stage.get("name") == name:
            return stage
    known = ", ".join(str(s.get("name")) for s in stages)
    raise ConfigError(f"--set {setting}: no stage is named {name!r}; the recipe has: {known}")


def check(data: Any, kind: Any, where: str = "") -> None:
    """Refuse unknown keys with the nearest known one; recurse into sections, lists and maps of sections."""
    if get_origin(kind) is not None:
        structs = [a for a in get_args(kind) if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        for inner in structs:
            if isinstance(data, list):
                for number, item in enumerate(data):
                    check(item, inner, f"{where[:-1]}[{number}].")
            elif isinstance(data, Mapping) and get_origin(kind) is dict:
                for key, item in data.items():
                    check(item, inner, f"{where}{key}.")
            elif data is not None:
                check(data, inner, where)
        return
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(data, Mapping)):
        return
    hints = get_type_hints(kind, include_extras=False)
    for key, value in data.items():
        if key not in hints:
            raise ConfigError(f"unknown key {where}{key}{_nearest(key, list(hints))}")
        check(value, hints[key], f"{where}{key}.")


def _nearest(key: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; known here: {', '.join(known)}"


def valid(said: str, kind: Any) -> str:
    """The words that a key may hold, when an error says that it holds another one."""
    match = re.search(r"^Invalid enum value .* at `\$\.([\w.\[\]…-]+)`$", said)
    for name in re.findall(r"\w+", match[1]) if match else ():
        if not name.isdecimal():
            kind = _inner(kind, name)
    words = [
        word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part)
    ]
    return f"; known: {', '.join(map(str, words))}" if match and words else ""


def _inner(kind: Any, name: str) -> Any:
    """The type of a section's key, whatever container the section stands in."""
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return get_type_hints(part, include_extras=False).get(name, Any)
    return Any
