"""The base of all recipe sections, and the numbers that several of them hold."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Micro = Positive | Literal["measured"]  # tokens of a micro-batch, or chosen by timing before the first step
MICRO = 2048
Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0)]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all recipe sections."""
