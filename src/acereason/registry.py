"""Domains by their names: how a problem of one is asked, and who judges its answers (`verify.domains`).

A domain is found among the registered, then among the installed entry points of the group
`acereason.domains`, then among those that ship, or as a dotted path `package.module:attribute`. It is loaded
when it is first asked for, so that a prompt can be put without the judge.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal

from acereason.errors import ConfigError
from acereason.problems import Problem, Verdict

if TYPE_CHECKING:
    from acereason.verify.domains import Tools

Mode = Literal["strict", "lcb", "math_verify", "acereason"]
SHIPPED = {
    "math": "acereason.verify.domains:MATH",
    "code": "acereason.verify.domains:CODE",
    "reasoning-gym": "acereason.verify.gym:GYM",
}


@dataclass(frozen=True, slots=True)
class Domain:
    """How problems of one kind are asked and judged; see the module."""

    name: str
    instruction: Callable[[Problem], str]
    extract: Callable[[str], str | None]
    judge: Callable[[Problem, str, Tools], Verdict]
    at_once: Callable[[Problem, str, Mode], Verdict | None] | None = None
    extract_lcb: Callable[[str], str | None] | None = None  # in mode "lcb", where it differs


_registered: dict[str, Domain] = {}
_lock = threading.Lock()


def register(domain: Domain) -> Domain:
    """Make a domain known under its name; a later one replaces an earlier one."""
    with _lock:
        _registered[domain.name] = domain
    return domain


def registered() -> tuple[str, ...]:
    """The names of the domains that are known by now."""
    with _lock:
        return tuple(sorted(_registered))


def domain(name: str) -> Domain:
    """The domain of this name; ConfigError when there is none."""
    known = _registered.get(name)
    return known or register(replace(_installed(name), name=name))


def _installed(name: str) -> Domain:
    for entry in entry_points(group="acereason.domains", name=name):
        return _checked(name, entry.load())
    module, separator, attribute = SHIPPED.get(name, name).partition(":")
    if separator:
        try:
            return _checked(name, getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"domain {name!r} cannot be loaded: {error}") from error
    known = {*SHIPPED, *(n for n in _registered if ":" not in n)}
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in known], n=1)
    raise ConfigError(
        f"unknown domain {name!r}{f'; did you mean {near[0]!r}?' if near else ''}; known: "
        f"{', '.join(sorted(known))}. A domain of your own is registered, "
        "installed as an entry point of `acereason.domains`, or named `module:attribute`"
    )


def _checked(name: str, loaded: object) -> Domain:
    if not isinstance(loaded, Domain):
        raise ConfigError(f"domain {name!r}: expected a Domain, found a {type(loaded).__name__}")
    return loaded
