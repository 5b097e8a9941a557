"""Lists: keep, change, reduce.

    Write f(a) for a list of numbers. Keep the items above 5, then add 3 to each. Return the
    largest, or -1 if none is left.

Level L has L stages. Decisions: bounds that count or not, the order of stages, first or last, and
what an empty list gives. Ways of writing: `inline` (comprehensions and a conditional expression),
`guard` (comprehensions and an early return) and `loop`.
"""

from __future__ import annotations

import random

from acereason.procedural.conditions import (
    CONDITIONS,
    Rule,
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

OUT = {
    "largest": "max({})",
    "smallest": "min({})",
    "first": "{}[0]",
    "last": "{}[-1]",
    "sum": "sum({})",
    "count": "len({})",
}
NEEDS_ITEM = ("largest", "smallest", "first", "last")
MISTAKEN_OUT = {"first": "last", "last": "first"}


def draw(rng: random.Random, level: int) -> Spec:
    stages: list[Rule] = []
    while not sensible(stages, level):
        stages = [
            draw_condition(rng) if level == 1 or rng.random() < 0.55 else draw_change(rng)
            for _ in range(level)
        ]
    out = rng.choice((*NEEDS_ITEM, *OUT))
    spec: Spec = {"stages": stages, "out": out}
    return spec | ({"empty": draw_empty(rng)} if out in NEEDS_ITEM else {})


def sensible(stages: list[Rule], level: int) -> bool:
    """At least one condition, nothing twice, and no two conditions on divisibility."""
    names = [stage[0] for stage in stages]
    divisions = [name for name in names if name in ("even", "odd", "divisible")]
    keeps = any(name in CONDITIONS for name in names)
    return len(names) == len(set(names)) == level and keeps and len(divisions) < 2


def stage_words(stage: Rule) -> str:
    return f"keep the items {words(stage)}" if stage[0] in CONDITIONS else words(stage)


def ask(spec: Spec) -> str:
    stages = ", then ".join(map(stage_words, spec["stages"]))
    empty = f", or {spec['empty']} if none is left" if "empty" in spec else ""
    return (
        f"Write f(a) for a list of numbers. {stages[0].upper()}{stages[1:]}. Return the {spec['out']}{empty}."
    )


def run(spec: Spec, items: list[int]) -> int | None:
    for stage in spec["stages"]:
        if stage[0] in CONDITIONS:
            items = [item for item in items if holds(stage, item)]
        else:
            items = [changed(stage, item) for item in items]
    out = spec["out"]
    if not items and out in NEEDS_ITEM:
        if spec["empty"] == MISSING:
            raise ValueError("no item")
        return spec["empty"]  # type: ignore[no-any-return]
    if out in ("sum", "count"):
        return sum(items) if out == "sum" else len(items)
    if out in ("largest", "smallest"):
        return max(items) if out == "largest" else min(items)
    return items[0 if out == "first" else -1]


def edges(spec: Spec) -> list[Args]:
    bounds = [stage[1] for stage in spec["stages"] if stage[0] in CONDITIONS]
    return [[[]], *([[bound, bound + 1, bound - 1]] for bound in bounds[:2])]


def sample(spec: Spec, rng: random.Random) -> Args:
    return [[rng.randint(-3, 15) for _ in range(rng.randint(1, 7))]]


def mistakes(spec: Spec) -> list[Spec]:
    stages, variants = spec["stages"], []
    for n, stage in enumerate(stages):
        if stage[0] in CONDITIONS:
            variants.append(spec | {"stages": [*stages[:n], misread(stage), *stages[n + 1 :]]})
        if n and stages[n - 1] != stage:
            swapped = [*stages[: n - 1], stage, stages[n - 1], *stages[n + 1 :]]
            variants.append(spec | {"stages": swapped})
    if spec["out"] in MISTAKEN_OUT:
        variants.append(spec | {"out": MISTAKEN_OUT[spec["out"]]})
    if "empty" in spec:
        variants += [spec | {"empty": empty} for empty in (MISSING, 0, None) if empty != spec["empty"]]
    return variants


def return_lines(spec: Spec, name: str, guard: bool) -> list[str]:
    value = OUT[spec["out"]].format(name)
    if spec.get("empty", MISSING) == MISSING:
        return [f"return {value}"]
    if guard:
        return [f"if not {name}:", f"\treturn {spec['empty']}", f"return {value}"]
    return [f"return {value} if {name} else {spec['empty']}"]


def comprehensions(spec: Spec) -> list[str]:
    return [
        f"a=[x for x in a if {code(stage)}]" if stage[0] in CONDITIONS else f"a=[{code(stage)} for x in a]"
        for stage in spec["stages"]
    ]


def loop(spec: Spec) -> list[str]:
    lines, depth = ["b=[]", "for x in a:"], 1
    for stage in spec["stages"]:
        keeps = stage[0] in CONDITIONS
        lines.append("\t" * depth + (f"if {code(stage)}:" if keeps else f"x={code(stage)}"))
        depth += keeps
    return [*lines, "\t" * depth + "b.append(x)"]


def write(spec: Spec, style: str) -> tuple[str, str]:
    empty = spec.get("empty", MISSING)
    plan = [code(stage) for stage in spec["stages"] if stage[0] in CONDITIONS] + [spec["out"]]
    plan += [] if empty == MISSING else [str(empty)]
    if style == "loop":
        body = loop(spec) + return_lines(spec, "b", guard=False)
    else:
        body = comprehensions(spec) + return_lines(spec, "a", guard=style == "guard")
    return ";".join(plan), function("a", body)


def mode(text: str) -> str:
    if "[x" not in text and "for x in a:" not in text:
        return "other"
    if "for x in a:" in text:
        return "loop"
    return "guard" if "if not a:" in text else "inline"


KIND = Kind("lists", ("inline", "guard", "loop"), draw, ask, run, edges, sample, mistakes, write, mode)
FAMILY = family(KIND, range(1, 4), slip=0.35)
