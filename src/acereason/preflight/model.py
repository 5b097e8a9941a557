"""The model of a recipe without its weights: is it there, and what fits into its context?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from acereason import weights
from acereason.config import Recipe, stage_names
from acereason.curate.fit import Length
from acereason.errors import AceReasonError, ConfigError
from acereason.kinds import said
from acereason.preflight.finding import Finding
from acereason.preflight.machine import unreachable

WEIGHTS = ("*.safetensors",)
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def model(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """The folder with its config and weights; or a hub id that is downloaded when the run begins."""
    if recipe.model.path is not None:
        yield from _there(recipe.model.path, recipe.model.source)
        yield from _frozen(recipe)
        if (config := of_folder(recipe)) is not None:
            yield Finding(
                "note", "model", f"{recipe.model.path}: {config.model_type}, context {context(recipe):,}"
            )


def _frozen(recipe: Recipe) -> Iterator[Finding]:
    """No more layers can be frozen than there are."""
    from acereason.policy import frozen

    try:
        if (config := of_folder(recipe)) is not None:
            frozen.check(recipe.model.frozen_layers, config.get_text_config().num_hidden_layers)
    except ConfigError as error:
        yield Finding("error", "model.frozen_layers", str(error))


def second(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """The teachers and references of the stages, where they are none of the run's own models."""
    names = {recipe.second_of(stage) for stage in recipe.stage} - {None, *stage_names(recipe)}
    for path in sorted(str(name) for name in names):
        if not path.startswith(("http://", "https://")):
            yield from _there(path)
        elif reason := unreachable(path):
            yield Finding("error", "second model", f"{path} does not answer: {reason}")


def _there(path: str, source: str | None = None) -> Iterator[Finding]:
    """A folder with weights, a hub id, or what is made into one; `source`: the hub id it came from."""
    if weights.name_of(path) is not None or Path(path).expanduser().suffix == ".gguf":
        yield from _made(path)
        return
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if looks_local(path):
            yield Finding("error", "model", f"there is no folder {path}{_beside(folder)}")
        else:
            yield from _hub(source or path)
        return
    if not (folder / "config.json").exists():
        yield Finding("error", "model", f"{path} is {said(folder)}; expected a Hugging Face folder")
    elif not any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        yield Finding(
            "error",
            "model",
            f"{path} holds no *.safetensors: it is {said(folder)}; convert the weights, or fetch them whole",
        )


def _made(path: str) -> Iterator[Finding]:
    """A model that is converted on first use: out of a package, or a GGUF file."""
    name = weights.name_of(path)
    if name is not None and not (weights.folder_of(name) / "config.json").exists():
        yield Finding("warning", "model", f"{path} is fetched when the run begins")
    elif name is None and not Path(path).expanduser().is_file():
        yield Finding("error", "model", f"there is no file {path}")


def looks_local(path: str) -> bool:
    """Whether a path can be no hub id: it begins like a path, or has not exactly one slash."""
    return path.startswith(("/", ".", "~")) or path.count("/") != 1


def _beside(folder: Path) -> str:
    near = [p.name for p in folder.parent.glob("*") if p.is_dir()] if folder.parent.is_dir() else []
    return f"; beside it: {', '.join(sorted(near)[:6])}" if near else ""


def _hub(source: str) -> Iterator[Finding]:
    from huggingface_hub import constants

    from acereason.policy import hub

    if (folder := hub.cached(source)) is not None:
        yield Finding("note", "model", f"{source}: a hub's model, in the cache at commit {folder.name}")
    elif constants.HF_HUB_OFFLINE:
        yield Finding(
            "error", "model", f"{source} is no folder here, and as a hub id it is not in the cache while "
            "HF_HUB_OFFLINE is set; name a folder, or unset it"
        )  # fmt: skip
    else:
        yield Finding("warning", "model", f"{source} is no folder here; it is downloaded when the run begins")


def _here(recipe: Recipe) -> Path | None:
    """The model's folder, on this disk or in the hub's cache; None when there is none yet."""
    path = Path(recipe.model.path or "").expanduser()
    if recipe.model.path is None or (path / "config.json").exists():
        return path if recipe.model.path else None
    if looks_local(recipe.model.path):
        return None
    from acereason.policy import hub

    return hub.cached(recipe.model.source or "")


@lru_cache(maxsize=4)
def _config(path: str, theta: float | None, wanted: int | None) -> Any:
    from acereason.policy import model as models

    return models.read_config(path, theta, wanted)


def of_folder(recipe: Recipe) -> Any:
    """The configuration of the model's folder with the recipe's changes; None when there is none here."""
    folder = _here(recipe)
    return _config(str(folder), recipe.model.rope_theta, recipe.model.context) if folder else None


def context(recipe: Recipe) -> int | None:
    """Most tokens of prompt and response together; None when it is not known without a download."""
    if recipe.model.new is not None:
        return recipe.model.new.max_position_embeddings
    if recipe.model.context is not None:
        return recipe.model.context
    config = of_folder(recipe)
    return None if config is None else int(config.max_position_embeddings)


def prompt_length(recipe: Recipe) -> Length | None:
    """Tokens of a problem's prompt; None when the tokenizer is not here yet."""
    here = _here(recipe)
    if here is None or not any((here / name).exists() for name in TOKENIZERS):
        return None
    from acereason.policy import model as models
    from acereason.policy import saved
    from acereason.policy.prompter import Prompter

    folder = str(here)
    tokenizer = models.load_tokenizer(folder)
    prompt = saved.choose(folder, tokenizer, recipe.model.format, recipe.model.prompt)
    prompter = Prompter(tokenizer, prompt)
    return lambda problem: len(prompter.ids(problem))


def budgets(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """No budget may be as long as the context, since a prompt comes before it."""
    try:
        room = context(recipe)
    except AceReasonError:
        return  # said by `model`
    if room is None:
        return
    asked = [(f"stage.{s.name}.budget", s.budget) for s in recipe.stage]
    for name, budget in [*asked, ("evaluation.budget", recipe.evaluation.budget)]:
        if budget >= room:
            yield Finding(
                "error", name, f"{budget:,} tokens leave no room for a prompt in the context of {room:,}; "
                "lower it, or raise model.context"
            )  # fmt: skip


def heads(recipe: Recipe, _: Path) -> Iterator[Finding]:
    """Ranks that share sequences share the attention heads, which they must divide."""
    count = recipe.model.new.num_attention_heads if recipe.model.new is not None else None
    try:
        if count is None and (config := of_folder(recipe)) is not None:
            count = config.get_text_config().num_attention_heads
    except AceReasonError:
        return  # said by `model`
    if recipe.lora is not None and recipe.lora.base == "nf4":
        yield from _four_bit(recipe)
    if count is None or recipe.placement.sequence == 1:
        return
    from acereason.policy import sequence

    try:
        sequence.check(count, recipe.placement.sequence)
    except ConfigError as error:
        yield Finding("error", "placement.sequence", str(error))


def _four_bit(recipe: Recipe) -> Iterator[Finding]:
    from acereason.policy import four_bit
    from acereason.train import parallel

    try:
        four_bit.check(parallel.device(recipe.placement), 1)
    except ConfigError as error:
        yield Finding("error", "lora.base", str(error))
