"""What of a recipe may change while its run goes on, and how two recipes differ.

Free are the settings that say where and how something is computed (numbers then agree to rounding), what is
kept, and how the result is measured. The weights depend on everything else, so that must stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from acereason.config import Recipe, resolved

FREE = (
    *("name", "schema", "sampling", "placement", "keep", "checkpoint_every", "evaluation", "health"),
    *("sft.evaluate_prompts", "sft.micro_tokens", "rl.micro_tokens"),
    *("rl.judges", "rl.max_k3", "rl.max_bad_steps"),
)


def differences(before: Recipe, after: Recipe) -> dict[str, str]:
    """What differs, by key: {"seed": "5 → 6"}."""
    return dict(_different(resolved(before), resolved(after)))


def free(key: str) -> bool:
    """Whether this key may change while a run goes on."""
    return any(key == name or key.startswith(f"{name}.") for name in FREE)


def _different(a: Any, b: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _different(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and _named(a) == _named(b) != []:
        for one, other in zip(a, b, strict=True):
            yield from _different(one, other, f"{where}.{one['name']}")
    elif a != b:
        yield where, f"{a!r} → {b!r}"


def _named(items: Sequence[Any]) -> list[str]:
    """The names of a list of sections; empty when it is none."""
    return [i["name"] for i in items] if all(isinstance(i, dict) and "name" in i for i in items) else []


def said(changes: dict[str, str]) -> str:
    """Differences in one line."""
    return "; ".join(f"{key} ({change})" for key, change in changes.items())
