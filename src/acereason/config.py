"""A recipe as typed data: TOML → frozen structs, every key known, every value checked.

    load("recipes/demo.toml", ["sft.epochs=3", "stage.math-short.budget=64"])

An unknown key is an error that names the nearest known one. `--set` paths name a stage by its `name`; `--set
model.path=` takes a key out again.
`resolved(recipe)` is the whole recipe with its defaults as JSON, and `digest(recipe)` its hash; both go
into the run's folder. Numbers of the paper stand in `recipes/*.toml`, not here: the defaults here are
what the paper says where it says it, and ours where it is silent (recipe comments tell which).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from acereason import keys, prompts
from acereason.errors import ConfigError

SCHEMA = 2  # of recipes; a recipe that does not say is read as the first

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0)]


HealthRule = Literal[
    "no_gradient",
    "truncated",
    "entropy_cold",
    "entropy_hot",
    "mismatch",
    "unjudged",
    "gradient",
    "held_out",
    "shorter",
    "same_answers",
    "slower",
    "sft_flat",
    "pass_at_k",
]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all recipe sections."""


class NewModel(Struct, frozen=True):
    """A small model built here; the fields are those of the architecture's Hugging Face config."""

    architecture: Literal["qwen3", "qwen2", "llama"] = "qwen3"
    vocab_size: Positive = 512
    hidden_size: Positive = 128
    num_hidden_layers: Positive = 4
    num_attention_heads: Positive = 4
    num_key_value_heads: Positive = 1
    head_dim: Positive = 32
    intermediate_size: Positive = 384
    tie_word_embeddings: bool = True
    max_position_embeddings: Positive = 1024


class Model(Struct, frozen=True):
    """The base model: a Hugging Face folder or hub id (`path`), or a `new` one with its tokenizer.

    format  how it is asked: chatml-1.1, deepseek-r1, plain, template (the model's own chat template), or own
            (the pieces in `prompt`); left out: as the model's folder says
    prompt  changes to that format: its system line and requests, or the pieces of one's own
    vocabulary  "data" cuts it, while the run lasts, to what the run's data need; an exported model has it
    whole
            again"""

    path: str | None = None
    new: NewModel | None = None
    format: str | None = None
    prompt: prompts.Settings | None = None
    rope_theta: Rate | None = None
    context: Positive | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    vocabulary: Literal["full", "data"] = "full"

    def __post_init__(self) -> None:
        if (self.path is None) == (self.new is None):
            raise ValueError("give either model.path or a [model.new] section, not both or neither")
        prompts.check(self.format, self.prompt)


class Lora(Struct, frozen=True):
    """Low-rank adapters over a frozen base: W + alpha / rank · B A in the linear layers named by `targets`
    (their last name; none: all of the decoder). `publish` says what servers get: merged weights, or the
    adapter alone, by vLLM's dynamic loading."""

    rank: Positive = 16
    alpha: Rate = 32.0
    targets: tuple[str, ...] = ()
    publish: Literal["merged", "adapter"] = "merged"

    @property
    def scale(self) -> float:
        """What stands before B A."""
        return self.alpha / self.rank


class Tasks(Struct, frozen=True):
    """Procedural problems of one domain: `families`, each at levels from `min_level` to `max_level`, or at
    its own of `levels`. `wrong_share` of the teacher's traces hold a mistake, as unchecked traces do."""

    families: tuple[str, ...]
    min_level: Positive = 1
    max_level: Positive = 4
    levels: dict[str, tuple[int, int]] = {}
    sft_prompts: Positive = 4000
    rl_prompts: Positive = 2000
    held_out: Positive = 512
    wrong_share: Share = 0.0

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

    tasks: dict[str, Tasks] = {}
    files: Files | None = None
    responses_per_prompt: Positive = 1
    sft_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    ngram: Positive = 9
    ngram_code: Positive = 14
    overlap_share: Share | None = None
    decontamination: Literal["evidence", "paper"] = "evidence"
    split: Literal["dev", "test"] = "test"


Fault = Literal["empty", "cut", "own_end", "open_thinking", "too_long"]  # of a trace


class Sft(Struct, frozen=True):
    """Supervised fine-tuning on the traces: packed, loss on the response only (recipe §1). A batch holds at
    most `batch_tokens` tokens, and the batches of an epoch are as even as its examples allow."""

    epochs: Positive = 5
    batch_tokens: Positive = 32768
    micro_tokens: Positive = 2048
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: Rate = 5e-5
    matrix_learning_rate: Rate = 0.02  # Muon's, for the matrices; AdamW takes `learning_rate` elsewhere
    warmup: Share = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-4
    clip_gradient: Rate = 1.0
    evaluate_prompts: Count = 128  # held-out prompts per domain after each epoch; 0 = none
    held_out: Count = 0  # SFT prompts whose traces are not learned; their loss is taken after each epoch
    keep: Literal["last", "best"] = "last"  # the epoch whose weights SFT ends with; best: by that loss
    set_aside: tuple[Fault, ...] = get_args(Fault)  # kinds of traces that are counted and not learned

    def __post_init__(self) -> None:
        if self.keep == "best" and not self.held_out:
            raise ValueError("sft.keep = 'best' needs sft.held_out prompts to tell the best by")


class Temperature(Struct, frozen=True):
    """How a stage gets its sampling temperature (recipe §3; the rules are classes of `sample.rules`).

    fixed      `value`
    epochs     `values`, one for each epoch of the stage's prompts; the last one holds
    calibrate  at the stage's start sample its prompts at `candidates`, take the T whose H_T is `target`
    track      calibrate, then hold H_T at the target while training: T moves by `gain` times the correction,
               at most by `max_factor` a step
    annealed   as track, while the target goes evenly to `target_end`
    anchored   as track, from `value` on; the target is `share` of H₀, the first batch's H_T
    e3         the formula of E3-RL4LLMs, from `value` on: towards H₀, and 0.9 of it after 60 % of the steps
    coefficient  T is `value`; an entropy bonus in the loss, whose coefficient goes up by `coefficient_step` a
               step below the target and down above it, to at most `coefficient_max` (Skywork-OR1). With a
               `share` the target is that of H₀ (AER)
    """

    rule: Literal["fixed", "epochs", "calibrate", "track", "anchored", "annealed", "e3", "coefficient"] = (
        "fixed"
    )
    value: Rate = 1.0
    values: tuple[Rate, ...] = ()
    target: Rate = 0.3
    target_end: Rate | None = None
    share: Rate | None = None
    coefficient_step: Rate = 1e-4
    coefficient_max: Rate = 5e-3
    candidates: Annotated[tuple[Rate, ...], Meta(min_length=2)] = (0.6, 0.8, 1.0, 1.2)
    prompts: Positive = 128
    gain: Annotated[float, Meta(gt=0, le=1)] = 0.3
    max_factor: Annotated[float, Meta(gt=1)] = 1.1

    def __post_init__(self) -> None:
        if bool(self.values) != (self.rule == "epochs"):
            raise ValueError('temperature.values belong to rule = "epochs", which needs at least one')
        if (self.target_end is not None) != (self.rule == "annealed"):
            raise ValueError('temperature.target_end belongs to rule = "annealed", which needs it')
        if self.rule == "anchored" and self.share is None:
            raise ValueError(
                'temperature rule = "anchored" needs a share of the first entropy, e.g. share = 1.0'
            )
        if self.share is not None and self.rule not in ("anchored", "coefficient"):
            raise ValueError(f'temperature.share belongs to "anchored" and "coefficient", not {self.rule!r}')


class Readmit(Struct, frozen=True):
    """Shares of the dropped prompts that an epoch asks all the same: of those that no rollout solved
    (`hard`), and of those that all did (`easy`)."""

    hard: Share = 0.0
    easy: Share = 0.0


class Filter(Struct, frozen=True):
    """Which prompts a stage trains on. `low ≤ pass rate ≤ high`, measured at the stage's start with
    `samples` responses to each of at most `candidates` prompts; `samples = 0` measures nothing.
    From the second epoch on, `drop_solved` drops what every rollout solved in the last one; `drop` = "both"
    also what none did, but for the shares that `readmit` lets in again each epoch, and all of them every
    `refresh_every` epochs. What was once at `retire_above` or more never returns. `refill`: the most rounds
    of further prompts that a step asks until as many as it wants have a gradient."""

    samples: Count = 0
    candidates: Positive = 1024
    low: Share = 0.0
    high: Share = 1.0
    levels: tuple[int, int] | None = None
    drop_solved: bool = False
    drop: Literal["none", "solved", "both"] = "none"
    readmit: Readmit = Readmit()
    refresh_every: Count = 0
    retire_above: Share | None = None
    refill: Count = 0

    def __post_init__(self) -> None:
        if self.drop_solved and self.drop != "none":
            raise ValueError('filter.drop_solved is filter.drop = "solved"; give one of them')
        if not self.dropping and (self.refresh_every or self.readmit != Readmit()):
            raise ValueError("filter.readmit and filter.refresh_every need filter.drop: nothing is dropped")
        if self.readmit.hard and self.dropping == "solved":
            raise ValueError('filter.readmit.hard needs filter.drop = "both": unsolved prompts stay anyway')
        if self.retire_above == 0:
            raise ValueError("filter.retire_above = 0 would retire every prompt; give a pass rate, e.g. 0.9")

    @property
    def dropping(self) -> str:
        """What an epoch leaves out of what the last one asked: "solved", "both" or nothing."""
        return "solved" if self.drop_solved else self.drop.replace("none", "")


class Stop(Struct, frozen=True):
    """When a stage ends before its steps: the truncated share falls below a value, the mean reward of the
    last `patience` steps is no better than that of the `patience` before, so many `tokens` are sampled, or
    the last `dev_patience` evaluations on the dev split (`evaluate_every`) were no better than the best."""

    truncated_below: Share | None = None
    patience: Positive | None = None
    tokens: Positive | None = None
    dev_patience: Positive | None = None


Group = Annotated[int, Meta(ge=2)]


class Stage(Struct, frozen=True):
    """One stage of RL. A stage is data; all stages are one run with one step counter.

    `group` is a number, or one for each epoch of the prompts, the last of which holds. The learning rate
    rises over `warmup` steps. Every `evaluate_every` steps (0: never) the policy is asked the dev split (see
    `Dev`); with `keep = "best"` the stage ends with the weights that did best there."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]
    domain: str
    budget: Positive
    steps: Positive
    group: Group | Annotated[tuple[Group, ...], Meta(min_length=1)] = 8
    prompts: Positive = 128
    learning_rate: Rate = 1e-6
    warmup: Count = 0  # steps over which the learning rate rises (the paper says nothing of one)
    temperature: Temperature = Temperature()
    overlong: Literal["mask", "zero", "soft"] = "mask"
    overlong_buffer: Count = 0  # tokens before the budget in which "soft" takes more and more of the reward
    filter: Filter = Filter()
    stop: Stop = Stop()
    evaluate_every: Count = 0
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        if not self.evaluate_every and (self.keep == "best" or self.stop.dev_patience is not None):
            raise ValueError(f"stage {self.name}: keep = 'best' and stop.dev_patience need evaluate_every")
        if (self.overlong == "soft") != (self.overlong_buffer > 0) or self.overlong_buffer > self.budget:
            raise ValueError(
                f"stage {self.name}: overlong = 'soft' and an overlong_buffer of 1 to {self.budget} tokens "
                "(the budget) belong together"
            )

    @property
    def groups(self) -> tuple[int, ...]:
        """The group size of each epoch; the last one holds."""
        return (self.group,) if isinstance(self.group, int) else self.group

    def group_in(self, epoch: int) -> int:
        """Responses to each prompt in an epoch (from 0)."""
        return self.groups[min(epoch, len(self.groups) - 1)]


class Rl(Struct, frozen=True):
    """What all stages share. `masked_in_statistics`: a response masked by the overlong rule still counts in
    its group's mean and standard deviation (unpublished; ours). `unjudged`: a response that could not be
    judged is left out alone ("response"), or its whole group is ("group"). Weight decay spares norms and
    biases. `updates` > 1 is off-policy, with clipping, and exists to show why not. `false_positives` of the
    responses that the judge calls wrong are rewarded, and `false_negatives` of those it calls right are not,
    to show what a bad judge does; ½ and ½ are random rewards.

    `advantage`, `normalisation`, `idle_groups`: `train.objective`; `ratio`, `sequence_mask`: `train.ratios`;
    `length_penalty`: `train.rewards`."""

    advantage: Literal["std", "mean", "batch", "max_rl", "loo"] = "std"
    normalisation: Literal["global", "group", "constant"] = "global"
    idle_groups: Literal["count", "drop"] = "count"  # those without a gradient, in the denominator
    length_penalty: Annotated[float, Meta(ge=0)] = 0.0
    masked_in_statistics: bool = True
    unjudged: Literal["response", "group"] = "response"
    updates: Positive = 1
    ratio: Literal["clip", "cispo", "gspo"] = "clip"
    clip: tuple[Rate, Rate] = (0.2, 0.2)
    sequence_mask: Literal["none", "geometric", "icepop"] = "none"
    mask_bounds: tuple[Rate, Rate] = (0.5, 2.0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    clip_gradient: Rate = 1.0
    micro_tokens: Positive = 2048
    judges: Positive = 2
    overlap: bool = True  # accumulate the gradient of finished groups while the rest is being sampled
    importance_cap: Rate | None = None  # truncated importance weights, where sampler and trainer differ
    max_k3: Rate | None = None  # most KL(sampler, trainer), nats a token, by k3; else `prepare.guarded` says
    max_bad_steps: Positive = 5  # steps in a row without a finite gradient that end the run
    false_positives: Share = 0.0
    false_negatives: Share = 0.0

    def __post_init__(self) -> None:
        if self.importance_cap is not None and self.updates > 1:
            raise ValueError("rl.importance_cap belongs to strict on-policy learning; leave rl.updates at 1")
        if self.ratio != "clip" and self.updates == 1:
            raise ValueError(
                f"rl.ratio = {self.ratio!r} needs rl.updates of 2 or more: with one update a batch every "
                "ratio is 1. For what sampler and trainer differ by there is rl.importance_cap, then CISPO"
            )
        if self.sequence_mask == "icepop" and (self.updates > 1 or self.importance_cap is not None):
            raise ValueError(
                "rl.sequence_mask = 'icepop' weighs each token by its ratio already; leave rl.updates at 1 "
                "and rl.importance_cap out, or take 'geometric'"
            )
        if not self.mask_bounds[0] < 1 < self.mask_bounds[1]:
            raise ValueError(
                f"rl.mask_bounds must enclose 1, the ratio of equal policies, not {self.mask_bounds}"
            )
        if self.advantage == "max_rl" and self.length_penalty:
            raise ValueError(
                "rl.advantage = 'max_rl' divides by the mean reward, which rl.length_penalty can make 0 or "
                "negative; use one of them"
            )


class Dev(Struct, frozen=True):
    """The dev split of evaluations inside a stage: `prompts` of each domain's RL prompts, drawn by hash and
    then never trained on, each asked `k` times as in the evaluation; `budget` is the evaluation's, unless
    given. The questions that are reported have no part in it."""

    prompts: Positive = 64
    k: Positive = 2
    budget: Positive | None = None


class Evaluation(Struct, frozen=True):
    """Held-out evaluation after each stage: avg@k and pass@k (recipe §4). `start` says whether a run without
    SFT evaluates the model it starts from; `dev` is for looking inside a stage."""

    start: bool = True
    k: Positive = 8
    temperature: Rate = 0.6
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.95
    budget: Positive = 32768
    dev: Dev = Dev()


class Health(Struct, frozen=True):
    """When a run is called unwell (`health/`): thresholds over means of the last `window` steps, and the
    rules whose alarm ends it, e.g. `stop = ["no_gradient", "mismatch"]`."""

    window: Annotated[int, Meta(ge=2)] = 5
    idle_groups: Share = 0.7  # groups without a gradient
    truncated: Share = 0.5
    entropy_band: Rate = 0.25  # of the target, to either side; at least 0.02 nats
    entropy_low: Share = 0.3  # without a target: of H_T at the stage's start
    entropy_high: Rate = 2.0
    mismatch: Rate = 1e-3  # k3 between sampler and trainer, nats a token
    unjudged: Share = 0.01
    gradient: Rate = 10.0  # times the stage's median norm
    reward_rise: Share = 0.1  # from where on a flat held-out accuracy is suspicious
    shrink: Share = 0.5  # of the length at the stage's start
    same_answers: Share = 0.6
    slow: Share = 0.5  # of the stage's median tokens a second
    sft_gain: Share = 0.95  # of the first third's loss, to be undercut by the last third's
    stop: tuple[HealthRule, ...] = ()


class Servers(Struct, frozen=True):
    """vLLM servers that sample in place of the embedded sampler (docs/cluster.md).

    Weights are published as files in `folder`, which every server can read. After each publish the
    log-probabilities of fixed prompts must agree with the trainer's within `canary` nats, on average.
    `colocated` servers share the trainer's GPUs and sleep while it learns. `api_key` is the name of the
    environment variable that holds the servers' key."""

    urls: Annotated[tuple[str, ...], Meta(min_length=1)]
    folder: str = "/dev/shm/acereason"
    colocated: bool = False
    canary: Rate = 0.02
    concurrency: Positive = 256  # requests in flight per server
    deadline: Rate = 3600.0  # seconds for one response
    api_key: str | None = None


class Sampling(Struct, frozen=True):
    """Where responses are sampled: by `servers`, or embedded in the process, with so many places decoded
    together, threads, and whether the compiled step may be used."""

    slots: Positive = 256
    threads: Positive | None = None
    native: bool = True
    servers: Servers | None = None


class Placement(Struct, frozen=True):
    """How learning is laid out on the machine; `torchrun` says how many ranks there are. Parameters are kept
    in float32; `compute` is the type of the forward and backward pass, `reduce` that of gradient sums.
    `parallel`: ranks hold shards of the model, or on processors each all of it, which is quicker where it
    fits. `sequence` neighbouring ranks share every sequence, where sequences are long: each has a slice of
    its tokens, and some heads of attention (Ulysses)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["float32", "bfloat16"] = "float32"
    reduce: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["shard", "replicate"] = "shard"
    sequence: Positive = 1
    checkpoint_activations: bool = False
    kernels: Literal["auto", "torch"] = "auto"  # auto: Liger's on CUDA where it is installed
    compile: bool = False


class Keep(Struct, frozen=True):
    """What a run's folder keeps: the newest `checkpoints`, and the responses of the last so many RL steps
    (left out: of all; 0: none, and none of the evaluations either). Models of finished stages stay."""

    checkpoints: Positive = 2
    responses: Count | None = None


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


def load(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `--set` assignments to it.

    Raises ConfigError: no such file, bad TOML, unknown key, wrong value."""
    try:
        data = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return parse(keys.assigned(data, settings), str(path))
    except ConfigError:
        if blamed := keys.blamed(data, settings, parse):
            parse(keys.assigned(data, settings), ", ".join(f"--set {setting}" for setting in blamed))
        raise


def parse(data: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """A recipe from plain data, e.g. `resolved` read back; one of an earlier schema is brought up to date."""
    data = _current(data, origin)
    try:
        keys.check(data, Recipe)
        return msgspec.convert(data, Recipe, strict=False)
    except (ConfigError, msgspec.ValidationError) as error:
        raise ConfigError(f"{origin}: {error}{keys.valid(str(error), Recipe)}") from error


def _current(data: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The data in the present schema. ConfigError for that of a later acereason."""
    found, data = data.get("schema", 1), {**data, "schema": SCHEMA}
    if isinstance(found, int) and found > SCHEMA:
        raise ConfigError(
            f"{origin} has schema {found}; this acereason reads up to {SCHEMA}. Upgrade it: "
            "pip install -U acereason"
        )
    if "keep_responses" in data:  # schema 1
        none = not data.pop("keep_responses")
        data["keep"] = {**data.get("keep", {}), **({"responses": 0} if none else {})}
    return data


def stage_names(recipe: Recipe) -> list[str]:
    """The names of a run's stages in order; SFT is the first, also where it is only evaluated."""
    return ["sft", *(s.name for s in recipe.stage)]


def check_stage(recipe: Recipe, name: str | None) -> None:
    """ConfigError when the recipe has no stage of this name."""
    if name is not None and name not in stage_names(recipe):
        raise ConfigError(f"there is no stage {name!r}; the recipe has: {', '.join(stage_names(recipe))}")


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe, defaults included, as JSON-able data."""
    data: dict[str, Any] = msgspec.to_builtins(recipe)
    return data


def digest(recipe: Recipe) -> str:
    """A hash of the resolved recipe (16 hex digits)."""
    canonical = msgspec.json.encode(resolved(recipe), order="sorted")
    return hashlib.sha256(canonical).hexdigest()[:16]
