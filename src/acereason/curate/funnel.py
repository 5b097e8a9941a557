"""The funnel: what each step of curation was given, what it kept, and why it dropped the rest.

Every step returns one line. `before - after` equals the sum of the reasons that drop a record; a
reason that only notes something (a record changed but kept) starts with "note: " and is not summed.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

NOTE = "note: "


class Funnel(msgspec.Struct, frozen=True):
    """One step: how many records came in, how many went on, and how many fell to each reason."""

    name: str
    before: int
    after: int
    reasons: dict[str, int] = {}

    def __post_init__(self) -> None:
        dropped = sum(n for reason, n in self.reasons.items() if not reason.startswith(NOTE))
        if self.before - self.after != dropped:
            raise ValueError(
                f"funnel {self.name!r}: {self.before} - {self.after} records dropped, "
                f"but the reasons explain {dropped}"
            )


def table(funnels: Iterable[Funnel]) -> str:
    """The funnel as plain aligned text, one line a step and one a reason."""
    lines = [f"{'step':<28}{'before':>12}{'after':>12}{'kept':>8}"]
    for step in funnels:
        kept = f"{step.after / step.before:.1%}" if step.before else "-"
        lines.append(f"{step.name:<28}{step.before:>12,}{step.after:>12,}{kept:>8}")
        for reason, count in sorted(step.reasons.items(), key=lambda item: (-item[1], item[0])):
            sign = "" if reason.startswith(NOTE) else "-"
            lines.append(f"    {reason:<36}{sign + format(count, ','):>12}")
    return "\n".join(lines)
