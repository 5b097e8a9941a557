"""Ranges: the whole numbers between two bounds that may or may not count.

    Write f(a,b). Take the whole numbers from a to b, with a but without b. If a is above b, swap
    them. Keep those divisible by 3. Return the largest, or 0 if there is none.

Decisions: either bound included, what happens when the bounds come in the wrong order, the order
of a list, what nothing gives. Level 1 has a condition or a change, level 2 also the wrong order,
level 3 all of them. Ways of writing: `comprehension`, `loop` and `while`.
"""

from __future__ import annotations

import random

from acereason.procedural.conditions import (
    changed,
    code,
    draw_change,
    draw_condition,
    draw_empty,
    holds,
    misread,
    words,
)
from acereason.procedural.programs import MISSING, Args, Kind, Spec, family, function

BOUNDS = {
    (True, True): "with both",
    (True, False): "with a but without b",
    (False, True): "with b but without a",
    (False, False): "without both",
}
OUT = {
    "sum": ("sum", "sum(t)"),
    "count": ("count", "len(t)"),
    "list": ("list", "t"),
    "back": ("list in reverse", "t[::-1]"),
    "largest": ("largest", "max(t)"),
    "smallest": ("smallest", "min(t)"),
}
NEEDS_ITEM = ("largest", "smallest")
SWAP = "swap"


def draw(rng: random.Random, level: int) -> Spec:
    out = rng.choice((*OUT, *NEEDS_ITEM))
    both, keeps = level == 3, out == "count" or rng.random() < 0.5
    spec: Spec = {
        "with": [rng.random() < 0.5, rng.random() < 0.5],
        "turned": rng.choice((SWAP, SWAP, -1, 0, None)) if level > 1 and out != "back" else None,
        "turned_asked": level > 1,
        "keep": draw_condition(rng) if both or keeps else None,
        "change": draw_change(rng) if out != "count" and (both or not keeps) else None,
        "out": out,
    }
    if level > 1 and out == "back":
        spec["turned"] = SWAP
    return spec | ({"empty": draw_empty(rng)} if out in NEEDS_ITEM else {})


def ask(spec: Spec) -> str:
    parts = [f"Write f(a,b). Take the whole numbers from a to b, {BOUNDS[tuple(spec['with'])]}."]
    if spec["turned_asked"]:
        action = "swap them" if spec["turned"] == SWAP else f"return {spec['turned']}"
        parts.append(f"If a is above b, {action}.")
    if spec["keep"]:
        parts.append(f"Keep those {words(spec['keep'])}.")
    if spec["change"]:
        change = words(spec["change"])
        parts.append(f"{change[0].upper()}{change[1:]}.")
    empty = f", or {spec['empty']} if there is none" if "empty" in spec else ""
    return " ".join([*parts, f"Return the {OUT[spec['out']][0]}{empty}."])


def run(spec: Spec, a: int, b: int) -> int | list[int] | None:
    if spec["turned_asked"] and a > b:
        if spec["turned"] != SWAP:
            return spec["turned"]  # type: ignore[no-any-return]
        a, b = b, a
    low, high = a + (not spec["with"][0]), b + spec["with"][1]
    items = [x for x in range(low, high) if not spec["keep"] or holds(spec["keep"], x)]
    if spec["change"]:
        items = [changed(spec["change"], x) for x in items]
    out = spec["out"]
    if out in NEEDS_ITEM:
        if not items and spec["empty"] != MISSING:
            return spec["empty"]  # type: ignore[no-any-return]
        return max(items) if out == "largest" else min(items)
    if out in ("list", "back"):
        return items if out == "list" else items[::-1]
    return sum(items) if out == "sum" else len(items)


def edges(spec: Spec) -> list[Args]:
    return [[4, 4], [2, 3], *([[9, 3]] if spec["turned_asked"] else [])]


def sample(spec: Spec, rng: random.Random) -> Args:
    a, b = rng.randint(0, 9), rng.randint(0, 18)
    return [a, b] if spec["turned_asked"] else sorted((a, b))


def mistakes(spec: Spec) -> list[Spec]:
    low, high = spec["with"]
    variants = [spec | {"with": [not low, high]}, spec | {"with": [low, not high]}]
    if spec["turned_asked"]:
        variants.append(spec | {"turned_asked": False})
        variants += [spec | {"turned": turned} for turned in (SWAP, 0) if turned != spec["turned"]]
    if spec["keep"]:
        variants.append(spec | {"keep": misread(spec["keep"])})
    if spec["out"] in ("list", "back"):
        variants.append(spec | {"out": "back" if spec["out"] == "list" else "list"})
    if "empty" in spec:
        variants += [spec | {"empty": empty} for empty in (MISSING, 0) if empty != spec["empty"]]
    return variants


def collect(spec: Spec, style: str) -> list[str]:
    """The lines that put the items into t."""
    low, high = spec["with"]
    start = "a" if low else "a+1"
    value = code(spec["change"]) if spec["change"] else "x"
    test = code(spec["keep"]) if spec["keep"] else ""
    numbers = f"range({start},{'b+1' if high else 'b'})"
    if style == "comprehension":
        return [f"t=[{value} for x in {numbers}{f' if {test}' if test else ''}]"]
    inner = [f"\tif {test}:", f"\t\tt.append({value})"] if test else [f"\tt.append({value})"]
    if style == "loop":
        return ["t=[]", f"for x in {numbers}:", *inner]
    return ["t=[]", f"x={start}", f"while x{'<=' if high else '<'}b:", *inner, "\tx=x+1"]


def write(spec: Spec, style: str) -> tuple[str, str]:
    low, high = spec["with"]
    empty, turned = spec.get("empty", MISSING), spec["turned"]
    plan = [f"a{'<=' if low else '<'}x{'<=' if high else '<'}b"]
    body = []
    if spec["turned_asked"]:
        plan.append(str(turned))
        body = ["if a>b:", "\ta,b=b,a" if turned == SWAP else f"\treturn {turned}"]
    plan += [spec["out"]] + ([] if empty == MISSING else [str(empty)])
    value = OUT[spec["out"]][1] + ("" if empty == MISSING else f" if t else {empty}")
    return ";".join(plan), function("a,b", [*body, *collect(spec, style), f"return {value}"])


def mode(text: str) -> str:
    for name, mark in (("comprehension", "t=["), ("while", "while x"), ("loop", "for x in")):
        if mark in text.replace("t=[]", ""):
            return name
    return "other"


KIND = Kind(
    "ranges",
    ("comprehension", "loop", "while"),
    draw,
    ask,
    run,
    edges,
    sample,
    mistakes,
    write,
    mode,
)
FAMILY = family(KIND, range(1, 4), slip=0.35)
