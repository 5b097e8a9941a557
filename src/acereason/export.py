"""A finished stage as a folder to give away: an ordinary Hugging Face model with a model card.

    export(run, out, stage=None)     config, safetensors, tokenizer; README.md; acereason/ with what made it
    push(out, "you/model")           the same to a hub repository, by the hub's own library

Everything in the card comes from the run's folder: recipe and hash, stages, evaluations with their errors,
the data's files with rows, hashes and sources. A run may still be going on; its finished stages can be
exported. The folder appears whole or not at all. The run's command line, which may name local paths, is left
out; a recipe's paths are part of its hash and stay.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from acereason import config, prompts
from acereason.errors import RunError
from acereason.evaluate import summary
from acereason.evaluate.estimates import Z95
from acereason.files import read_jsonl
from acereason.problems import Problem
from acereason.runs import disk_errors, file_hash, read_metrics

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
    format: str

    @property
    def name(self) -> str:
        return str(self.stages[-1]["name"])


def export(
    run: Path, out: Path, stage: str | None = None, licence: str | None = None, force: bool = False
) -> Path:
    """Write a stage's model (default: the last finished one) with its card to the folder `out`.

    Raises RunError: no run there, no such stage, or `out` is taken. `force` replaces an earlier export."""
    found = gather(run, stage, licence)
    _check_free(out, run, force)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            shutil.copytree(run / "models" / found.name, temporary)
            _put_back(temporary)
            _say_how_it_is_asked(found, temporary)
            _add_own(found, temporary)
            (temporary / "README.md").write_text(card(found, out.name))
            _replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def _put_back(folder: Path) -> None:
    """Give a model whose vocabulary was cut for the run the rest of its rows, and its own tokenizer."""
    from acereason.policy import model as models
    from acereason.policy import vocabulary

    whole = vocabulary.restored(folder)
    if whole is None:
        return
    template = folder / "chat_template.jinja"
    asked = template.read_bytes() if template.exists() else None
    for file in [*folder.glob("*.safetensors*"), folder / vocabulary.FILE]:
        file.unlink()
    models.save(whole.model, whole.tokenizer, folder)
    models.save_ends(folder, whole.ends)
    if asked is not None:
        template.write_bytes(asked)


def _say_how_it_is_asked(found: Exported, folder: Path) -> None:
    """The prompt format and its chat template, for a run that did not put them into its models' folders."""
    from transformers import GenerationConfig

    from acereason.policy import model as models
    from acereason.policy import policy, saved

    if (folder / saved.FILE).exists():
        return
    tokenizer, asked = models.load_tokenizer(folder), found.recipe.model
    prompt = saved.choose(None, tokenizer, asked.format, asked.prompt)
    face = SimpleNamespace(generation_config=GenerationConfig.from_pretrained(folder))
    policy.describe(policy.Policy(face, tokenizer, prompt), folder)


def gather(run: Path, stage: str | None = None, licence: str | None = None) -> Exported:
    """Read what a card tells from a run's folder."""
    recipe = config.parse(_json(run / "recipe.json"), str(run / "recipe.json"))
    names = [summary.SFT, *(s.name for s in recipe.stage)]
    done = [n for n in names if (run / "models" / n / "config.json").exists()]
    if stage is not None and stage not in names:
        raise RunError(f"the run has no stage {stage!r}; its stages: {', '.join(names)}")
    if not done or (stage is not None and stage not in done):
        finished = ", ".join(done) or "none"
        raise RunError(f"stage {stage or names[0]!r} is not finished in {run}; finished: {finished}")
    last = stage or done[-1]
    rows = list(read_metrics(run))
    stages = [summary.stage_row(rows, n) for n in names[: names.index(last) + 1]]
    whole = run / "summary.json"
    gain = _json(whole)["gain"] if whole.exists() and last == names[-1] else {}
    return Exported(
        recipe, _json(run / "manifest.json"), stages, gain, _data(run), licence, _format(run, last)
    )


def _format(run: Path, stage: str) -> str:
    """The name of the prompt format that a stage's model was trained with."""
    from acereason.policy import saved

    told = saved.read(run / "models" / stage)
    return told.name if told else prompts.CHATML.name


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path.parent} is not a run's folder: {path.name} cannot be read ({error})"
        ) from error


def _data(run: Path) -> list[dict[str, Any]]:
    """The data's files: rows, SHA-256, and where the problems come from."""
    result = []
    for path in sorted((run / "data").glob("*.jsonl")):
        sources: Counter[str] = Counter()
        if path.stem != "traces":
            sources.update(p.source or "not named" for p in read_jsonl(path, Problem))
        with path.open("rb") as file:
            rows = sum(1 for _ in file)
        result.append({"file": path.name, "rows": rows, "sha256": file_hash(path), "sources": dict(sources)})
    return result


def _check_free(out: Path, run: Path, force: bool) -> None:
    if out.resolve() == run.resolve() or run.resolve() in out.resolve().parents:
        raise RunError(f"{out} lies in the run's own folder; choose another --out")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise RunError(f"{out} is not empty; replace an earlier export with --force, or choose another --out")
    if not (out / OWN / "recipe.json").exists():
        raise RunError(f"{out} is not an export (no {OWN}/recipe.json), so --force will not delete it")


def _add_own(found: Exported, folder: Path) -> None:
    own = folder / OWN
    own.mkdir()
    manifest = {k: v for k, v in found.manifest.items() if k != "command"} | {"data": found.data}
    parts = {
        "recipe.json": config.resolved(found.recipe),
        "manifest.json": manifest,
        "evaluations.json": {"stages": found.stages, "gain": found.gain},
    }
    for name, value in parts.items():
        (own / name).write_text(json.dumps(value, indent=2) + "\n")


def _replace(temporary: Path, out: Path) -> None:
    """Put the new folder in the old one's place."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    temporary.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def card(found: Exported, name: str) -> str:
    """The model card: YAML for the hub, then what the model is, how it was made, and how good it is."""
    recipe, manifest = found.recipe, found.manifest
    base = recipe.model.path or "a randomly initialised model"
    made = ", ".join(f"{k} {v}" for k, v in manifest.get("packages", {}).items())
    parts = [
        f"---\n{_metadata(found, name)}\n---",
        f"# {_plain(name)}",
        f"{_plain(base)} after stage `{found.name}` of the recipe `{_plain(recipe.name)}` (hash "
        f"`{manifest['recipe_sha256']}`, seed {recipe.seed}). Made with {made}, after the recipe of "
        "[AceReason-Nemotron 1.1](https://arxiv.org/abs/2506.13284). The whole resolved recipe is in "
        f"`{OWN}/recipe.json`.",
        "## Stages\n\n" + _stages(found),
        "## Evaluation\n\n" + _evaluation(found),
        "## Data\n\n" + _manifest(found.data),
        "## Use\n\n" + _use(found.format),
        "## Licences\n\n" + _licences(found),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(found: Exported, name: str) -> str:
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
        for domain, score in found.stages[-1]["evaluation"].items()
    ]
    path = found.recipe.model.path
    data = ModelCardData(
        license=licence_of(found),
        base_model=path if path and not Path(path).exists() else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["acereason", "reasoning", "math", "code"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def licence_of(found: Exported) -> str:
    """The licence of the weights: as given, or the base model's where it is known, else "other"."""
    return found.licence or LICENCES.get(found.recipe.model.path or "", "other")


def _stages(found: Exported) -> str:
    settings = {s.name: s for s in found.recipe.stage}
    rows = []
    for row in found.stages:
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


def _evaluation(found: Exported) -> str:
    rules = found.recipe.evaluation
    rows = []
    for domain, score in found.stages[-1]["evaluation"].items():
        passes = ", ".join(f"{k}: {100 * v:.1f}" for k, v in score["pass_at_k"].items())
        gained = _gained(found.gain.get(domain) or {})
        rows.append((domain, score["n"], score["k"], _with_error(score), passes, gained))
    if not rows:
        return "The run's folder holds no evaluation of this stage."
    head = ("held out", "problems", "k", "avg@k, %", "pass@k, %", "gain over SFT, points")
    return (
        f"Temperature {rules.temperature}, top-p {rules.top_p}, at most {rules.budget:,} tokens, "
        f"split `{found.recipe.curate.split}`. ± and ranges are 95 % intervals over problems; gains are "
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


def _use(format: str) -> str:
    return (
        "Opens with `AutoModelForCausalLM` and `AutoTokenizer` of transformers, and with vLLM. Trained on "
        f"prompts in the format `{_plain(format)}`: `prompt.json` holds its words, and the chat template "
        "renders it from one user turn that holds the question and the request of its domain. Other wording "
        "is out of distribution. Meant for math and code problems; nothing was done for safety."
    )


def _licences(found: Exported) -> str:
    given = found.licence or LICENCES.get(found.recipe.model.path or "")
    weights = f"`{given}`" if given else "not declared; the base model's terms hold"
    base = _plain(found.recipe.model.path or "none")
    return (
        f"* Weights: {weights}.\n"
        f"* Base model: {base}{', under its own licence' if found.recipe.model.path else ''}.\n"
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


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload an export to a hub repository, private unless said otherwise; returns its address.

    Raises RunError when the hub refuses or cannot be reached; the folder stays."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Export of acereason")
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"the export stands in {folder}, but could not be pushed to {repository}: {first}. Log in with "
            "`hf auth login`, and see that HF_HUB_OFFLINE is not set"
        ) from error
    return str(address)
