"""Picks: one item of a list by a key, with a rule for ties.

    Write f(a) for a list of numbers. Keep the items above 2. Return the item with the smallest
    distance to 5, on ties the last, or -1 if there is none.

Decisions: smallest or largest, which of several ties, the item or its index, what nothing gives.
Level L first applies L-1 conditions. Ways of writing: `key` (min or max), `sort` and `loop`.
"""

from __future__ import annotations

import random

from acereason.procedural.conditions import (
    Rule,
    code,
    draw_condition,
    draw_empty,
    holds,
    misread,
    words,
)
from acereason.procedural.programs import MISSING, Args, Kind, Spec, family, function

KEYS = {  # name: words, code of x
    "distance": ("distance to {k}", "abs(x-{k})"),
    "remainder": ("remainder by {k}", "x%{k}"),
    "value": ("value", "x"),
}


def draw(rng: random.Random, level: int) -> Spec:
    out = rng.choice(("item", "index")) if level == 1 else "item"
    names = ("distance", "distance", "remainder", "value" if out == "index" else "remainder")
    name = rng.choice(names)
    return {
        "keeps": [draw_condition(rng) for _ in range(level - 1)],
        "key": [name, rng.randint(2, 12)],
        "side": rng.choice(("smallest", "largest")),
        "tie": rng.choice(("first", "last")),
        "out": out,
        "empty": draw_empty(rng),
    }


def ask(spec: Spec) -> str:
    keeps = "".join(f"Keep the items {words(rule)}. " for rule in spec["keeps"])
    key = KEYS[spec["key"][0]][0].format(k=spec["key"][1])
    what = "item" if spec["out"] == "item" else "index of the item"
    return (
        f"Write f(a) for a list of numbers. {keeps}Return the {what} with the {spec['side']} "
        f"{key}, on ties the {spec['tie']}, or {spec['empty']} if there is none."
    )


def key_of(rule: Rule, x: int) -> int:
    name, k = str(rule[0]), int(rule[1])
    return {"distance": abs(x - k), "remainder": x % k, "value": x}[name]


def run(spec: Spec, items: list[int]) -> int | None:
    items = [x for x in items if all(holds(rule, x) for rule in spec["keeps"])]
    if not items:
        if spec["empty"] == MISSING:
            raise ValueError("no item")
        return spec["empty"]  # type: ignore[no-any-return]
    keys = [key_of(spec["key"], x) for x in items]
    best = min(keys) if spec["side"] == "smallest" else max(keys)
    ties = [n for n, key in enumerate(keys) if key == best]
    at = ties[0 if spec["tie"] == "first" else -1]
    return items[at] if spec["out"] == "item" else at


def edges(spec: Spec) -> list[Args]:
    k = spec["key"][1]
    return [[[]], [[k - 2, k + 2, k + 1, k - 1]]]


def sample(spec: Spec, rng: random.Random) -> Args:
    items = [rng.randint(0, 12) for _ in range(rng.randint(2, 5))]
    return [rng.choices(items, k=rng.randint(2, 6))]


def mistakes(spec: Spec) -> list[Spec]:
    keeps = spec["keeps"]
    variants = [
        spec | {"side": "largest" if spec["side"] == "smallest" else "smallest"},
        spec | {"tie": "last" if spec["tie"] == "first" else "first"},
    ]
    variants += [spec | {"empty": empty} for empty in (MISSING, 0, None) if empty != spec["empty"]]
    if not keeps:
        variants.append(spec | {"out": "index" if spec["out"] == "item" else "item"})
    for n, rule in enumerate(keeps):
        variants.append(spec | {"keeps": [*keeps[:n], misread(rule), *keeps[n + 1 :]]})
    return variants


def with_key(spec: Spec, style: str) -> list[str]:
    """The return line of the styles `key` and `sort`, after the early return for an empty list."""
    indexed = spec["out"] == "index"
    key = code_of_key(spec, "a[i]" if indexed else "x")
    source = ("range(len(a))" if indexed else "a") + ("[::-1]" if spec["tie"] == "last" else "")
    name = "i" if indexed else "x"
    smallest = spec["side"] == "smallest"
    if style == "key":
        value = f"{'min' if smallest else 'max'}({source},key=lambda {name}:{key})"
    else:
        turn = "" if smallest else ",reverse=True"
        value = f"sorted({source},key=lambda {name}:{key}{turn})[0]"
    guard = ["if not a:", f"\treturn {spec['empty']}"] if spec["empty"] != MISSING else []
    return [*guard, f"return {value}"]


def code_of_key(spec: Spec, x: str) -> str:
    return KEYS[spec["key"][0]][1].replace("x", x).format(k=spec["key"][1])


def loop(spec: Spec) -> list[str]:
    """One pass that remembers the best key and its item."""
    indexed = spec["out"] == "index"
    sign = ("<" if spec["side"] == "smallest" else ">") + ("=" if spec["tie"] == "last" else "")
    start = "a[0]" if spec["empty"] == MISSING else spec["empty"]
    return [
        f"r,m={start},None",
        "for i,x in enumerate(a):" if indexed else "for x in a:",
        f"\tk={code_of_key(spec, 'x')}",
        f"\tif m is None or k{sign}m:",
        f"\t\tr,m={'i' if indexed else 'x'},k",
        "return r",
    ]


def write(spec: Spec, style: str) -> tuple[str, str]:
    keeps = [f"a=[x for x in a if {code(rule)}]" for rule in spec["keeps"]]
    body = keeps + (loop(spec) if style == "loop" else with_key(spec, style))
    plan = [*map(code, spec["keeps"]), spec["side"], spec["tie"]]
    if spec["empty"] != MISSING:
        plan.append(str(spec["empty"]))
    return ";".join(plan), function("a", body)


def mode(text: str) -> str:
    if "sorted(" in text:
        return "sort"
    if "r,m=" in text:
        return "loop"
    return "key" if "min(" in text or "max(" in text else "other"


KIND = Kind("picks", ("key", "sort", "loop"), draw, ask, run, edges, sample, mistakes, write, mode)
FAMILY = family(KIND, range(1, 3), slip=0.35)
