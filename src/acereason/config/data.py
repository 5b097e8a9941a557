"""What a run learns from and is evaluated on: procedural tasks, or files of one's own."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from acereason.config.struct import Positive, Share, Struct


class Tasks(Struct, frozen=True):
    """Procedural problems of one domain: `families`, each at levels from `min_level` to `max_level`, or at
    its own of `levels`. `wrong_share` of the teacher's traces hold a mistake, as unchecked traces do;
    `direct_share` of them give the answer at once, as some of a mixed collection do."""

    families: tuple[str, ...]
    min_level: Positive = 1
    max_level: Positive = 4
    levels: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    sft_prompts: Positive = 4000
    rl_prompts: Positive = 2000
    held_out: Positive = 512
    wrong_share: Share = 0.0
    direct_share: Share = 0.0

    def __post_init__(self) -> None:
        if unknown := sorted(self.levels.keys() - set(self.families)):
            raise ValueError(f"levels names {unknown}, the families are {sorted(self.families)}")


class Files(Struct, frozen=True):
    """Data of one's own as JSON Lines: problems for SFT with the `traces` (responses, at most so many
    `responses` of each problem) that answer them, problems for RL (one file for all stages, or one per stage
    by its name), and held-out problems to evaluate on."""

    rl: str | dict[str, str]
    held_out: str
    sft: str | None = None
    traces: str | None = None
    responses: Positive | None = None

    def __post_init__(self) -> None:
        if (self.sft is None) != (self.traces is None):
            raise ValueError("files.sft and files.traces belong together")


class Curate(Struct, frozen=True):
    """From sources to the SFT traces and the RL prompts. `tasks` maps a domain to procedural families,
    `files` names data of one's own instead; SFT learns from `sft_share` of its prompts, the same first ones
    whatever the share, and RL's do not change with it;
    prompts that share an `ngram` with a held-out question are dropped when the shared ones are at least
    `overlap_share` of either's. Of files, `decontamination` says what counts: "evidence" leaves out n-grams
    of stock phrases and asks for a share of 0.3, "paper" drops any hit (docs/curation.md)."""

    tasks: dict[str, Tasks] = msgspec.field(default_factory=dict)
    files: Files | None = None
    responses_per_prompt: Positive = 1
    sft_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    ngram: Positive = 9
    ngram_code: Positive = 14
    overlap_share: Share | None = None
    decontamination: Literal["evidence", "paper"] = "evidence"
    split: Literal["dev", "test"] = "test"
