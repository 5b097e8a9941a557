"""Whether the arms that a study compares began from one model.

A start that is needed again on another machine is run again, and is then not the same model to the last
digit: sums in another order, and training makes much of little. Arms that began from different copies of a
start still differ by what the study asks about, but by their copies, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence

from acereason.study.records import Record

SHOWN = 4  # names of a group


def matched(
    arms: Mapping[tuple[str, int], Record], copy: Callable[[str, str], Record | None]
) -> dict[tuple[str, int], Record]:
    """The arms, each start among them as the copy that the others of its seed began from, where that is one
    and `copy` (by address and weights) knows it."""
    began: dict[str, set[str]] = defaultdict(set)
    for record in arms.values():
        if record.start is not None:
            began[record.start].add(record.began)

    def of(record: Record) -> Record:
        weights = began[record.address]
        return (copy(record.address, *weights) or record) if len(weights) == 1 else record

    return {key: of(record) for key, record in arms.items()}


def mixed(
    arms: Mapping[tuple[str, int], Record], made_here: Container[str], again: Callable[[str, str], bool]
) -> tuple[str, ...]:
    """What is to be said of each seed and start (its address among `made_here`) of which there is more than
    one copy. A start that is an arm itself counts with its own model.

    Copies are told apart by their weights. A record from before these were kept is taken for one of the same
    torch and processor, unless that is of a copy that was made after the first (`again`, by address and
    weights)."""
    groups: dict[tuple[int, str], list[tuple[str, str, Record]]] = defaultdict(list)
    for (name, seed), record in arms.items():
        if record.start is not None and record.start in made_here:
            groups[seed, record.start].append((name, record.began, record))
    for (name, seed), record in arms.items():
        if (seed, record.address) in groups:
            groups[seed, record.address].append((name, record.weights, record))
    told = (_told(seed, start, members, again) for (seed, start), members in sorted(groups.items()))
    return tuple(text for text in told if text)


def _told(
    seed: int,
    start: str,
    members: Sequence[tuple[str, str, Record]],
    again: Callable[[str, str], bool],
) -> str:
    alike = {_machine(r): weights for _, weights, r in members if weights and not again(start, weights)}
    copies: dict[str, list[str]] = defaultdict(list)
    for name, weights, record in members:
        copies[weights or alike.get(_machine(record), _machine(record))].append(name)
    if len(copies) < 2:
        return ""
    return f"seed {seed}: " + " | ".join(_names(names) for names in copies.values())


def _machine(record: Record) -> str:
    return record.version.partition("torch ")[2]


def _names(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
