"""Where a gain comes from: answering better in the same way, or choosing a better way to answer.

A *mode* is a way of responding (work it out, guess, check afterwards). With share s_m of a family's
responses in mode m and accuracy a_m within it, accuracy is Σ s_m a_m, and a change splits exactly:

    gain = Σ_m Δa_m · s̄_m   (within: accuracy changed inside modes)
         + Σ_m Δs_m · ā_m   (shift: other modes were chosen)

with Δ = after − before and the bar their mean. A mode that was never used on one side has no
accuracy there; it takes the other side's, so all of its contribution is shift. Accuracies and
shares are in [0, 1]. The split says what moved, not why, and modes are whatever the caller's
classifier says; it carries no standard error (bootstrap the rows for one).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from acereason.errors import DataError

Row = tuple[str, str, bool | None]  # family, mode, right


@dataclass(frozen=True)
class ModeChange:
    """One mode before and after; an accuracy is None where the mode was not used."""

    mode: str
    share_before: float
    share_after: float
    accuracy_before: float | None
    accuracy_after: float | None
    within: float
    shift: float


@dataclass(frozen=True)
class Decomposition:
    """Accuracy before and after, and the two parts of the gain: after − before = within + shift."""

    before: float
    after: float
    within: float
    shift: float
    modes: tuple[ModeChange, ...]


@dataclass(frozen=True)
class Decompositions:
    """`overall` has modes named "family/mode": a changed mix of families counts as shift."""

    overall: Decomposition
    families: dict[str, Decomposition]


def decompose(before: Iterable[Row], after: Iterable[Row]) -> Decompositions:
    """Decompose the gain between two sets of judged responses of the same families.

    DataError when a set is empty or has unjudged rows, or when the sets have different families."""
    first, second = _by_family(before, "before"), _by_family(after, "after")
    if first.keys() != second.keys():
        raise DataError(
            f"expected the same families on both sides, found {sorted(first)} and {sorted(second)}"
        )
    families = {
        family: decompose_shares(_shares(first[family]), _shares(second[family])) for family in sorted(first)
    }
    overall = decompose_shares(_shares(_flat(first)), _shares(_flat(second)))
    return Decompositions(overall, families)


def decompose_shares(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]
) -> Decomposition:
    """The same from {mode: (share, accuracy)} on each side; shares of a side sum to 1."""
    modes = tuple(_change(mode, before.get(mode), after.get(mode)) for mode in _order(before, after))
    return Decomposition(
        before=sum(share * accuracy for share, accuracy in before.values()),
        after=sum(share * accuracy for share, accuracy in after.values()),
        within=sum(mode.within for mode in modes),
        shift=sum(mode.shift for mode in modes),
        modes=modes,
    )


def _order(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> list[str]:
    """Modes by their larger share, the largest first."""
    absent = (0.0, 0.0)
    return sorted(
        before.keys() | after.keys(),
        key=lambda mode: (-max(before.get(mode, absent)[0], after.get(mode, absent)[0]), mode),
    )


def _change(mode: str, before: tuple[float, float] | None, after: tuple[float, float] | None) -> ModeChange:
    share_before, accuracy_before = before if before and before[0] > 0 else (0.0, None)
    share_after, accuracy_after = after if after and after[0] > 0 else (0.0, None)
    first = next((a for a in (accuracy_before, accuracy_after) if a is not None), 0.0)
    last = next((a for a in (accuracy_after, accuracy_before) if a is not None), 0.0)
    return ModeChange(
        mode,
        share_before,
        share_after,
        accuracy_before,
        accuracy_after,
        within=(last - first) * (share_before + share_after) / 2,
        shift=(share_after - share_before) * (first + last) / 2,
    )


def _by_family(rows: Iterable[Row], side: str) -> dict[str, dict[str, list[bool]]]:
    families: dict[str, dict[str, list[bool]]] = {}
    unjudged = 0
    for family, mode, right in rows:
        unjudged += right is None
        families.setdefault(family, {}).setdefault(mode, []).append(bool(right))
    if unjudged or not families:
        instead = f"{unjudged} unjudged" if families else "none"
        raise DataError(f"expected judged responses {side}, found {instead}; judge or drop them first")
    return families


def _shares(modes: Mapping[str, list[bool]]) -> dict[str, tuple[float, float]]:
    total = sum(map(len, modes.values()))
    return {mode: (len(right) / total, sum(right) / len(right)) for mode, right in modes.items()}


def _flat(families: Mapping[str, Mapping[str, list[bool]]]) -> dict[str, list[bool]]:
    return {f"{family}/{mode}": right for family, modes in families.items() for mode, right in modes.items()}
