"""The whole recipe, and what must agree between its sections."""

from __future__ import annotations

from acereason.config.data import Curate
from acereason.config.evaluation import Evaluation, Health
from acereason.config.model import Lora, Model
from acereason.config.rl import Rl
from acereason.config.running import Keep, Placement, Sampling
from acereason.config.sft import Sft
from acereason.config.stage import Stage
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
        servers = self.sampling.servers
        if self.lora and self.lora.publish == "adapter" and servers and servers.transfer != "files":
            raise ValueError(
                "lora.publish = 'adapter' goes by files; set sampling.servers.transfer = 'files'"
            )
        files = self.curate.files
        if files is not None and isinstance(files.rl, dict) and set(files.rl) != set(names):
            raise ValueError(f"curate.files.rl names {sorted(files.rl)}, the stages are {sorted(names)}")
        bonus = [s.name for s in self.stage if s.temperature.rule == "coefficient"]
        if bonus and self.rl.advantage == "batch":
            raise ValueError(
                f"an entropy coefficient ({bonus}) is measured in rewards, and rl.advantage = 'batch' in the "
                "batch's standard deviations; take another of the two"
            )
        if soft := [s.name for s in self.stage if s.overlong == "soft"]:
            self._check_soft(soft)

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
