"""What `curate` is told: sources, benchmarks, filters, the teacher, stages and mixes as typed data.

Numbers of the paper are the defaults where it prints them (9- and 14-grams, pass rates); what it
leaves open is off or neutral by default, and named here, so nothing is thinned that a recipe does
not ask for.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from acereason.curate.adapters import ColumnMap
from acereason.curate.decontaminate import CODE_N, EVIDENCE_SHARE, MATH_N, Boilerplate
from acereason.curate.rules import CodeRules, MathRules
from acereason.curate.select import Band, StageSelection
from acereason.curate.teach import Teacher
from acereason.curate.wire import TeacherProtocol

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections."""


class SourceSettings(Struct, frozen=True):
    """One set. name: of a published set, or any name together with `columns`; "problems" and no
    columns reads this project's own records. path: file, folder or hub id (default: the published
    id). revision: branch, tag or commit at the hub; the manifest names the commit that was read.
    option: a config, split or model, where the set has them. rejoin: for OpenCodeReasoning, files of
    {dataset, split, index, question}. traces: whether to take the set's responses. check_rows:
    insist on the published number of rows."""

    name: str
    path: str | None = None
    revision: str | None = None
    columns: ColumnMap | None = None
    option: str | None = None
    rejoin: tuple[str, ...] = ()
    traces: bool = True
    check_rows: bool = True


class BenchmarkSettings(Struct, frozen=True):
    """Questions that no training prompt may share text with: a file, folder or hub id. column: where
    they stand; without it, under one of the usual names (`published.fields`)."""

    name: str
    path: str
    revision: str | None = None
    column: str | None = None
    url_column: str | None = None


class DecontaminationSettings(Struct, frozen=True):
    """How contamination is decided; see `decontaminate.py`. n: n-gram length by domain, `other`
    elsewhere. rule: "evidence" leaves out n-grams of stock phrases and asks for a share of 0.3;
    "paper" drops any hit; `min_share` and `boilerplate` change either."""

    rule: Literal["evidence", "paper"] = "evidence"

    math: Positive = MATH_N
    code: Positive = CODE_N
    other: Positive = MATH_N
    min_share: Share | None = None
    boilerplate: Boilerplate | None = None
    released_until: str | None = None

    @property
    def share(self) -> float:
        """The least share of n-grams that makes a leak."""
        default = EVIDENCE_SHARE if self.rule == "evidence" else 0.0
        return default if self.min_share is None else self.min_share

    @property
    def stock(self) -> Boilerplate | None:
        """Which n-grams are nobody's question."""
        return self.boilerplate or (Boilerplate() if self.rule == "evidence" else None)


class MixSettings(Struct, frozen=True):
    """One SFT set: so many prompts, so many responses each; None: all there are."""

    name: str
    prompts: Positive | None = None
    per_prompt: Positive | None = None


class SftSettings(Struct, frozen=True):
    """From responses to SFT mixes. finished: only responses whose thinking was closed and that were
    not cut. correct_only: only responses judged correct (the paper describes no checking of SFT
    responses)."""

    lengths: tuple[Band, ...] = ()
    finished: bool = True
    correct_only: bool = False
    mixes: tuple[MixSettings, ...] = ()


class RlSettings(Struct, frozen=True):
    """From prompts to RL sets. sound_tests: run reference and known wrong solutions. majority: keep
    where the most frequent answer of the attempts is correct. difficulty: least and greatest share
    of failures that stays (code in the paper: less than 8 of 8). unknown: keep prompts whose
    difficulty is not known."""

    math: MathRules | None = msgspec.field(default_factory=MathRules)
    code: CodeRules | None = msgspec.field(default_factory=CodeRules)
    sound_tests: bool = False
    majority: bool = False
    agreement: Share = 0.0
    difficulty: tuple[Share, Share] = (0.0, 1.0)
    unknown: bool = True
    lengths: tuple[Band, ...] = ()
    stages: tuple[StageSelection, ...] = ()


class Curation(Struct, frozen=True):
    """The whole pipeline. judge: judge every response (needed for difficulty and majority of fresh
    responses). tokenizer: a tokenizer.json to count the tokens of published traces with; without
    one, characters divided by `characters_per_token`."""

    sources: tuple[SourceSettings, ...]
    benchmarks: tuple[BenchmarkSettings, ...] = ()
    seed: int = 0
    duplicates: Share | None = 0.8
    decontamination: DecontaminationSettings = DecontaminationSettings()
    teacher: Teacher | None = None
    protocol: TeacherProtocol | None = None
    ask: Literal["all", "rl"] = "all"
    judge: bool = False
    tokenizer: str | None = None
    characters_per_token: Annotated[float, Meta(gt=0)] = 3.5
    sft: SftSettings = SftSettings()
    rl: RlSettings = msgspec.field(default_factory=RlSettings)
    format: Literal["parquet", "jsonl"] = "parquet"
    workers: Positive = 2
