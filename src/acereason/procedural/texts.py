"""Texts: keep some letters of a text, once or every time, in one order or another.

    Write f(s) for a text. Ignore case by making it lower first. Keep the letters after g, each
    only once, in sorted order. Return the first one, or '-' if none is left.

Level L combines L of the decisions about case, repetition and order with the choice of letters.
Ways of writing: `comprehension`, `loop` (a list) and `string` (a growing string).
"""

from __future__ import annotations

import random

from acereason.procedural.programs import MISSING, Args, Kind, Spec, family, function

VOWELS = "aeiou"
LETTERS = "cdefghijklmnopqr"
KEEPS = {  # name: words, code
    "vowels": ("the vowels", "c in 'aeiou'"),
    "others": ("what is not a vowel", "c not in 'aeiou'"),
    "after": ("the letters after {k}", "c>'{k}'"),
    "from": ("the letters from {k} on", "c>='{k}'"),
    "before": ("the letters before {k}", "c<'{k}'"),
    "to": ("the letters up to {k}", "c<='{k}'"),
}
MISREAD = {"vowels": "others", "others": "vowels", "after": "from", "from": "after"}
MISREAD |= {"before": "to", "to": "before"}
ORDERS = {"kept": "in their order", "sorted": "in sorted order", "back": "in reverse"}
OUT = {
    "text": "them as a text",
    "head": "the first {n} as a text",
    "tail": "the last {n} as a text",
    "count": "the count",
    "first": "the first",
    "last": "the last",
}
OTHER_END = {"head": "tail", "tail": "head", "first": "last", "last": "first"}
EMPTIES = "-?!*+#=_"


def draw(rng: random.Random, level: int) -> Spec:
    decided = set(rng.sample(("lower", "once", "order"), level))
    out = rng.choice(tuple(OUT))
    if out == "count":
        decided.discard("order")
    spec: Spec = {
        "lower": "lower" in decided,
        "keep": [rng.choice((*KEEPS, "after", "from", "before", "to")), rng.choice(LETTERS)],
        "once": "once" in decided,
        "order": rng.choice(("sorted", "back")) if "order" in decided else "kept",
        "out": out,
        "n": rng.randint(2, 5),
    }
    return spec | ({"empty": rng.choice(EMPTIES)} if out in ("first", "last") else {})


def ask(spec: Spec) -> str:
    case = "Ignore case by making it lower first. " if spec["lower"] else ""
    keep = KEEPS[spec["keep"][0]][0].format(k=spec["keep"][1])
    once = ", each only once" if spec["once"] else ""
    order = "" if spec["out"] == "count" else f", {ORDERS[spec['order']]}"
    out = OUT[spec["out"]].format(n=spec["n"])
    empty = f", or '{spec['empty']}' if none is left" if "empty" in spec else ""
    return f"Write f(s) for a text. {case}Keep {keep}{once}{order}. Return {out}{empty}."


def keeps(rule: list[str], letter: str) -> bool:
    name, k = rule
    return {
        "vowels": letter in VOWELS,
        "others": letter not in VOWELS,
        "after": letter > k,
        "from": letter >= k,
        "before": letter < k,
        "to": letter <= k,
    }[name]


def cut(spec: Spec) -> slice:
    """The part of the letters that the text out of them has."""
    if spec["out"] == "text":
        return slice(None)
    return slice(None, spec["n"]) if spec["out"] == "head" else slice(-spec["n"], None)


def run(spec: Spec, text: str) -> str | int:
    letters = [c for c in (text.lower() if spec["lower"] else text) if keeps(spec["keep"], c)]
    if spec["once"]:
        letters = list(dict.fromkeys(letters))
    if spec["order"] != "kept":
        letters = sorted(letters) if spec["order"] == "sorted" else letters[::-1]
    if spec["out"] == "count":
        return len(letters)
    if spec["out"] in ("text", "head", "tail"):
        return "".join(letters[cut(spec)])
    if not letters and spec["empty"] != MISSING:
        return str(spec["empty"])
    return letters[0 if spec["out"] == "first" else -1]


def edges(spec: Spec) -> list[Args]:
    k = spec["keep"][1]
    return [[""], [f"{chr(ord(k) + 1)}{k}{k}{chr(ord(k) - 1)}"]]


def sample(spec: Spec, rng: random.Random) -> Args:
    letters = rng.choices(LETTERS + VOWELS, k=rng.randint(3, 5)) * 2
    text = "".join(rng.sample(letters, rng.randint(2, len(letters))))
    if spec["lower"]:
        text = "".join(c.upper() if rng.random() < 0.4 else c for c in text)
    return [text]


def mistakes(spec: Spec) -> list[Spec]:
    variants = [spec | {"keep": [MISREAD[spec["keep"][0]], spec["keep"][1]]}]
    variants += [spec | {key: False} for key in ("lower", "once") if spec[key]]
    if spec["out"] != "count":
        variants += [spec | {"order": order} for order in ORDERS if order != spec["order"]]
    if not spec["once"]:
        variants.append(spec | {"once": True})
    if "empty" in spec:
        variants.append(spec | {"empty": MISSING})
    if spec["out"] in OTHER_END:
        variants.append(spec | {"out": OTHER_END[spec["out"]]})
    return variants


def return_line(spec: Spec, name: str, joined: bool) -> str:
    """The last line; `joined` when the letters already are a string."""
    out = spec["out"]
    ordered = {"kept": name, "sorted": f"sorted({name})", "back": f"{name}[::-1]"}[spec["order"]]
    if out == "count":
        return f"return len({name})"
    ordered += {"head": f"[:{spec['n']}]", "tail": f"[-{spec['n']}:]"}.get(out, "")
    if out in ("text", "head", "tail"):
        plain = joined and spec["order"] != "sorted"
        return f"return {ordered}" if plain else f"return ''.join({ordered})"
    value = f"{ordered}[{0 if out == 'first' else -1}]"
    empty = spec["empty"]
    return f"return {value}" + ("" if empty == MISSING else f" if {name} else '{empty}'")


def write(spec: Spec, style: str) -> tuple[str, str]:
    condition = KEEPS[spec["keep"][0]][1].format(k=spec["keep"][1])
    source = "s.lower()" if spec["lower"] else "s"
    empty = spec.get("empty", MISSING)
    decisions = [
        "lower" * spec["lower"],
        condition,
        "once" * spec["once"],
        spec["order"] * (spec["order"] != "kept"),
        spec["out"],
        "" if empty == MISSING else f"'{empty}'",
    ]
    if style == "comprehension":
        body = [f"t=[c for c in {source} if {condition}]"]
        body += ["t=list(dict.fromkeys(t))"] if spec["once"] else []
    else:
        test = f"{condition} and c not in t" if spec["once"] else condition
        start, grow = ("t=[]", "t.append(c)") if style == "loop" else ("t=''", "t=t+c")
        body = [start, f"for c in {source}:", f"\tif {test}:", f"\t\t{grow}"]
    body.append(return_line(spec, "t", joined=style == "string"))
    return ";".join(filter(None, decisions)), function("s", body)


def mode(text: str) -> str:
    for name, mark in (("comprehension", "[c for"), ("loop", "t=[]"), ("string", "t=''")):
        if mark in text:
            return name
    return "other"


KIND = Kind(
    "texts",
    ("comprehension", "loop", "string"),
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
