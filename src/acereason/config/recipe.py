"""The whole recipe, and what must agree between its sections."""

from __future__ import annotations

import msgspec

from acereason.config.data import Curate
from acereason.config.evaluation import Evaluation, Health
from acereason.config.model import Lora, Model
from acereason.config.rl import Rl
from acereason.config.running import Keep, Placement, Sampling
from acereason.config.sft import Sft
from acereason.config.stage import Filter, Stage
from acereason.config.struct import Positive, Struct

SCHEMA = 2  # of recipes; a recipe that does not say is read as the first


class Recipe(Struct, frozen=True):
    """Everything that makes a run, but for the machine it runs on.

    `seed` draws a new model's weights and the order of training. `data_seed` draws the questions, their split
    and the traces, `draw_seed` every sampled response; both are `seed` unless they are given, so that one
    source of chance can be changed and the others held."""

    name: str
    model: Model
    seed: int = 1
    data_seed: int | None = None
    draw_seed: int | None = None
    lora: Lora | None = None
    curate: Curate = Curate()
    sft: Sft | None = None
    rl: Rl = Rl()
    stage: tuple[Stage, ...] = ()
    evaluation: Evaluation = Evaluation()
    health: Health = Health()
    sampling: Sampling = Sampling()
    placement: Placement = Placement()
    checkpoint_every: Positive = 10
    keep: Keep = Keep()
    schema: Positive = SCHEMA

    @property
    def keep_responses(self) -> bool:
        """Whether any response is kept."""
        return self.keep.responses != 0

    def __post_init__(self) -> None:
        names = [s.name for s in self.stage]
        if len(set(names)) < len(names) or "sft" in names:
            raise ValueError(f"stage names must differ and not be 'sft': {names}")
        if self.lora is not None and self.sft is not None and self.sft.optimizer == "muon":
            raise ValueError("sft.optimizer = 'muon' is for whole matrices; use 'adamw' with [lora]")
        if self.lora is not None and self.model.frozen_layers:
            raise ValueError(
                "under [lora] all of the base keeps its weights; leave model.frozen_layers out, or [lora]"
            )
        servers = self.sampling.servers
        transfer = servers.transfer if servers else "files"
        if self.lora and self.lora.publish == "adapter" and transfer not in ("files", "auto"):
            raise ValueError(
                "lora.publish = 'adapter' goes by files; set sampling.servers.transfer = 'files'"
            )
        files = self.curate.files
        if files is not None and isinstance(files.rl, dict) and set(files.rl) != set(names):
            raise ValueError(f"curate.files.rl names {sorted(files.rl)}, the stages are {sorted(names)}")
        bonus = [s.name for s in self.stage if "coefficient" in {t.rule for t in s.rules}]
        if bonus and self.rl.advantage == "batch":
            raise ValueError(
                f"an entropy coefficient ({bonus}) is measured in rewards, and rl.advantage = 'batch' in the "
                "batch's standard deviations; take another of the two"
            )
        if self.rl.reward == "tests" and {d for s in self.stage for d in s.domains} == {"math"}:
            raise ValueError(
                "rl.reward = 'tests' is the share of a program's tests, and every stage is of math"
            )
        if soft := [s.name for s in self.stage if s.overlong == "soft"]:
            self._check_soft(soft)
        for number, stage in enumerate(self.stage):
            self._check_second(stage, names[number:])
            if stage.temperatures and set(stage.temperatures) != set(self.shares_of(stage)):
                raise ValueError(
                    f"stage {stage.name}: temperatures name {sorted(stage.temperatures)}, and it asks "
                    f"prompts of {sorted(self.shares_of(stage))}; give each of these a rule"
                )
            if stage.replay and not self.replayed(stage):
                raise ValueError(
                    f"stage {stage.name}: replay asks the domains of earlier stages again, and there is none "
                    f"but its own ({', '.join(stage.domains)})"
                )

    def _check_second(self, stage: Stage, later: list[str]) -> None:
        """That the stage's second model is there when it begins, and can say what it is asked."""
        second = self.second_of(stage)
        if second in later:
            raise ValueError(
                f"stage {stage.name}: its teacher or reference {second!r} is no earlier stage; earlier are "
                f"{['sft', *(s.name for s in self.stage)][: -len(later)]}"
            )
        served = second is not None and second.startswith(("http://", "https://"))
        if served and self.model.vocabulary == "data":
            raise ValueError(
                f"stage {stage.name}: {second} knows the whole vocabulary, and model.vocabulary = 'data' "
                "cuts the policy's; give the model's folder in place of the URL, which is cut alike, or "
                "leave it 'full'"
            )
        fixed = {(t.rule, t.value) for t in stage.rules} == {("fixed", 1)}
        if served and not fixed:
            raise ValueError(
                f"stage {stage.name}: a server tells log-probabilities of a prompt at T = 1 alone, so with "
                f"{second} the temperature must be fixed at 1; give the model's folder in place of the URL"
            )

    def shares_of(self, stage: Stage) -> dict[str, float]:
        """Which part of a stage's prompts each domain has, those that are replayed last; together 1."""
        weights = stage.weights or (1.0,) * len(stage.domains)
        own = (1 - stage.replay) / sum(weights)
        again = self.replayed(stage)
        return dict(zip(stage.domains, (own * w for w in weights), strict=True)) | {
            domain: stage.replay / len(again) for domain in again
        }

    def replayed(self, stage: Stage) -> dict[str, Stage]:
        """The domains that a stage replays, each with the last earlier stage that had it as its own."""
        earlier = self.stage[: self.stage.index(stage)] if stage.replay else ()
        return {domain: s for s in earlier for domain in s.domains if domain not in stage.domains}

    def filter_of(self, stage: Stage, domain: str) -> Filter:
        """The rule for a domain's prompts in a stage: what is replayed has the levels that it had before."""
        again = self.replayed(stage)
        levels = again[domain].filter.levels if domain in again else stage.filter.levels
        return msgspec.structs.replace(stage.filter, levels=levels)

    def second_of(self, stage: Stage) -> str | None:
        """The model beside the policy in a stage: its teacher, or its reference; an earlier stage's name, or
        what a model is loaded by; None where there is none."""
        if stage.kind == "distill":
            return stage.teacher
        if not self.rl.kl.coefficient:
            return None
        before = ["sft", *(s.name for s in self.stage)]
        named = self.rl.kl.reference
        return before[before.index(stage.name) - 1] if named == "start" else named

    @property
    def asked_later(self) -> set[str]:
        """The stages whose models later stages need."""
        seconds = {self.second_of(s) for s in self.stage}
        return {name for name in ("sft", *(s.name for s in self.stage)) if name in seconds}

    def _check_soft(self, stages: list[str]) -> None:
        if self.rl.advantage == "max_rl":
            raise ValueError(
                f"rl.advantage = 'max_rl' divides by the mean reward, which overlong = 'soft' ({stages}) "
                "can make negative; use 'mask' or 'zero'"
            )
        if self.rl.length_penalty:
            raise ValueError(
                f"rl.length_penalty and overlong = 'soft' ({stages}) would both punish length; use one"
            )

    @property
    def of_data(self) -> int:
        """The seed of questions, splits and traces."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def of_draws(self) -> int:
        """The seed of sampled responses."""
        return self.seed if self.draw_seed is None else self.draw_seed
