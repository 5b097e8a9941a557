"""The model card of an export: what the model is, how it was made and asked, and how good it is.

Everything in it comes from the run's folder, as `export.gather` reads it. Names and paths mean nothing to
Markdown or HTML; the code under "Use" runs where the folder lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acereason import config
from acereason.evaluate.estimates import Z95
from acereason.problems import Problem
from acereason.prompts import Prompt

OWN = "acereason"  # the folder beside the model with recipe, manifest and summary
LICENCES = {  # of base models, as their cards say
    "Qwen/Qwen2.5-Math-7B": "apache-2.0",
    "Qwen/Qwen2.5-Math-1.5B": "apache-2.0",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": "mit",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "mit",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What of a run a card tells: `stages` are lines of the summary up to the exported one, `gain` its paired
    gain over SFT by domain where the run is finished and it is the last."""

    recipe: config.Recipe
    manifest: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]]
    gain: Mapping[str, Mapping[str, float | None]]
    data: Sequence[Mapping[str, Any]]
    licence: str | None
    prompt: Prompt
    example: Problem
    adapter: bool = False  # the adapter alone

    @property
    def name(self) -> str:
        return str(self.stages[-1]["name"])


def card(exported: Exported, name: str, repository: str | None = None) -> str:
    """The model card: YAML for the hub, then what the model is, how it was made, and how good it is. It is
    used from the folder `name`, or from a hub repository."""
    recipe, manifest = exported.recipe, exported.manifest
    base = recipe.model.path or "a randomly initialised model"
    made = ", ".join(f"{k} {v}" for k, v in manifest.get("packages", {}).items())
    parts = [
        f"---\n{_metadata(exported, name)}\n---",
        f"# {_plain(name)}",
        f"{_plain(base)} after stage `{exported.name}` of the recipe `{_plain(recipe.name)}` (hash "
        f"`{manifest['recipe_sha256']}`, seed {recipe.seed}). Made with {made}, after the recipe of "
        "[AceReason-Nemotron 1.1](https://arxiv.org/abs/2506.13284). The whole resolved recipe is in "
        f"`{OWN}/recipe.json`.",
        "## Stages\n\n" + _stages(exported),
        "## Evaluation\n\n" + _evaluation(exported),
        "## Data\n\n" + _manifest(exported.data),
        "## Use\n\n" + _use(exported, repository or name),
        "## Licences\n\n" + _licences(exported),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(exported: Exported, name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=domain,
            dataset_name=f"{domain}, held out",
            metric_type="accuracy",
            metric_name=f"avg@{score['k']}",
            metric_value=score["accuracy"],
        )
        for domain, score in exported.stages[-1]["evaluation"].items()
    ]
    path = exported.recipe.model.path
    data = ModelCardData(
        license=licence_of(exported),
        base_model=path if path and not Path(path).exists() else None,
        library_name="peft" if exported.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["acereason", "reasoning", "math", "code"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def licence_of(exported: Exported) -> str:
    """The licence of the weights: as given, or the base model's where it is known, else "other"."""
    return exported.licence or LICENCES.get(exported.recipe.model.path or "", "other")


def _stages(exported: Exported) -> str:
    settings = {s.name: s for s in exported.recipe.stage}
    rows = []
    for row in exported.stages:
        stage = settings.get(row["name"])
        budget: tuple[object, ...] = ("–",) * 4
        if stage is not None:
            group = ", ".join(map(str, stage.groups))
            budget = (stage.budget, group, stage.prompts, f"{stage.learning_rate:g}")
        rows.append(
            (row["name"], row["domain"], row["steps"], *budget, _number(row["T"], 3), _number(row["H_T"], 3))
        )
    head = ("stage", "domain", "steps", "budget", "group", "prompts", "learning rate", "T", "H_T, nats")
    return _table(head, rows)


def _with_error(score: Mapping[str, Any]) -> str:
    mean, error = score["accuracy"], score["se"]
    shown = "–" if mean is None else f"{100 * mean:.1f}"
    return shown if error is None else f"{shown} ± {100 * Z95 * error:.1f}"


def _gained(gain: Mapping[str, float | None]) -> str:
    mean, low, high = (gain.get(name) for name in ("mean", "low", "high"))
    shown = "–" if mean is None else f"{100 * mean:+.1f}"
    return shown if low is None or high is None else f"{shown} ({100 * low:.1f} to {100 * high:.1f})"


def _evaluation(exported: Exported) -> str:
    rules = exported.recipe.evaluation
    rows = []
    for domain, score in exported.stages[-1]["evaluation"].items():
        passes = ", ".join(f"{k}: {100 * v:.1f}" for k, v in score["pass_at_k"].items())
        gained = _gained(exported.gain.get(domain) or {})
        rows.append((domain, score["n"], score["k"], _with_error(score), passes, gained))
    if not rows:
        return "The run's folder holds no evaluation of this stage."
    head = ("held out", "problems", "k", "avg@k, %", "pass@k, %", "gain over SFT, points")
    return (
        f"Temperature {rules.temperature}, top-p {rules.top_p}, at most {rules.budget:,} tokens, "
        f"split `{exported.recipe.curate.split}`. ± and ranges are 95 % intervals over problems; gains are "
        "paired.\n\n" + _table(head, rows)
    )


def _manifest(data: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"`{row['file']}`",
            f"{row['rows']:,}",
            f"`{row['sha256']}`",
            ", ".join(f"{_plain(name)} {count:,}" for name, count in sorted(row["sources"].items())) or "–",
        )
        for row in data
    ]
    return _table(("file", "rows", "SHA-256", "problems by source"), rows)


def _use(exported: Exported, path: str) -> str:
    rules, asked = exported.recipe.evaluation, exported.prompt.request(exported.example)
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    load = 'AutoModelForCausalLM.from_pretrained(path, dtype="auto")'
    if exported.adapter:  # the name of its base is in adapter_config.json
        imports = "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"
        load = 'AutoPeftModelForCausalLM.from_pretrained(path, dtype="auto")'
    code = f"""{imports}

path = {path!r}  # where this folder lies, or its name on the hub
tokenizer = AutoTokenizer.from_pretrained(path)
model = {load}
turns = [{{"role": "user", "content": {asked!r}}}]
how = {{"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}}
prompt = tokenizer.apply_chat_template(turns, **how)
how = {{"do_sample": True, "temperature": {rules.temperature:g}, "top_p": {rules.top_p:g}, "top_k": 0}}
ids = model.generate(**prompt, **how, max_new_tokens={rules.budget})[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(ids))"""
    how = (
        f"In the terminal: `acereason chat {_plain(path)}`; as a server: `acereason serve {_plain(path)}`, "
        "or `vllm serve`. "
    )
    if exported.adapter:
        how = (
            "`base_model_name_or_path` in `adapter_config.json` names the base; `vllm serve BASE "
            f"--enable-lora --lora-modules own={_plain(path)}` serves it. "
        )
    return (
        f"```python\n{code}\n```\n\n{how}Trained on prompts in the format "
        f"`{_plain(exported.prompt.name)}`: `prompt.json` holds its words, and the chat template renders it "
        "from one user turn that holds the question and the request of its domain. Other wording is out of "
        "distribution. Meant for math and code problems; nothing was done for safety."
    )


def _licences(exported: Exported) -> str:
    given = exported.licence or LICENCES.get(exported.recipe.model.path or "")
    weights = f"`{given}`" if given else "not declared; the base model's terms hold"
    base = _plain(exported.recipe.model.path or "none")
    return (
        f"* Weights: {weights}.\n"
        f"* Base model: {base}{', under its own licence' if exported.recipe.model.path else ''}.\n"
        "* Training data: the licences of its sources hold, and may bind what is derived from it.\n"
        "* The program that trained it: Apache-2.0."
    )


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(text: str) -> str:
    """Text that means nothing to Markdown or HTML."""
    return "".join(c if c.isalnum() or c in " ._/:+,@-" else "·" for c in text)
