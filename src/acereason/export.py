"""A finished stage as a folder to give away: an ordinary Hugging Face model with a model card.

    export(run, out, stage=None)     config, safetensors, tokenizer; README.md; acereason/ with what made it
    export(…, adapter=True)          of a run with adapters the adapter alone, in peft's files
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
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from acereason import config, prompts
from acereason.card import OWN, Exported, card
from acereason.curate import tasks
from acereason.errors import RunError
from acereason.evaluate import summary
from acereason.files import file_hash, read_jsonl
from acereason.problems import Problem
from acereason.runs import check_run, disk_errors, read_metrics

SOME = 1000  # problems among which the card's example is looked for
EXAMPLE = Problem("example", "math", "What is the sum of the whole numbers from 1 to 10?")


def export(
    run: Path, out: Path, stage: str | None = None, licence: str | None = None, force: bool = False,
    repository: str | None = None, adapter: bool = False,
) -> Path:  # fmt: skip
    """Write a stage's model (default: the last finished one) with its card to the folder `out`. The card's
    code names the folder, or the hub `repository` that it will be in. With `adapter` the base's weights stay
    out; else a model with adapters is merged, and has them beside it.

    Raises RunError: no run there, no such stage, no adapter, or `out` is taken. `force` replaces an earlier
    export."""
    exported = replace(gather(run, stage, licence), adapter=adapter)
    _check_free(out, run, force)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            if adapter:
                _copy_adapter(run / "models" / exported.name, temporary)
            else:
                shutil.copytree(run / "models" / exported.name, temporary)
                _put_back(temporary)
                _say_how_it_is_asked(exported, temporary)
            _add_own(exported, temporary)
            (temporary / "README.md").write_text(card(exported, out.name, repository))
            _replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def _copy_adapter(model: Path, out: Path) -> None:
    """The adapter of a stage's model with the tokenizer and how it is asked. RunError: it has none."""
    from acereason.policy import lora, vocabulary

    if not (model / lora.FOLDER / lora.CONFIG).exists():
        raise RunError(
            f"{model} has no adapter: its run learned whole weights (no [lora] in its recipe). Export it "
            "without --adapter"
        )
    shutil.copytree(model / lora.FOLDER, out)
    cut = (model / vocabulary.FILE).exists()  # then the base's own tokenizer is the right one
    for file in model.iterdir():
        own = file.name in ("prompt.json", "chat_template.jinja")
        if file.is_file() and (own or (not cut and file.name.startswith(("tokenizer", "special_tokens")))):
            shutil.copy2(file, out)


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


def _say_how_it_is_asked(exported: Exported, folder: Path) -> None:
    """The prompt format and its chat template, for a run that did not put them into its models' folders."""
    from transformers import GenerationConfig

    from acereason.policy import model as models
    from acereason.policy import policy, saved

    if (folder / saved.FILE).exists():
        return
    tokenizer, asked = models.load_tokenizer(folder), exported.recipe.model
    prompt = saved.choose(None, tokenizer, asked.format, asked.prompt)
    face = SimpleNamespace(generation_config=GenerationConfig.from_pretrained(folder))
    policy.describe(policy.Policy(face, tokenizer, prompt), folder)


def gather(run: Path, stage: str | None = None, licence: str | None = None) -> Exported:
    """Read what a card tells from a run's folder."""
    check_run(run)
    recipe = config.parse(_json(run / "recipe.json"), str(run / "recipe.json"), recorded=True)
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
        recipe, _json(run / "manifest.json"), stages, gain, _data(run), licence, _prompt(run, last),
        _example(run),
    )  # fmt: skip


def _prompt(run: Path, stage: str) -> prompts.Prompt:
    """The prompt format that a stage's model was trained with."""
    from acereason.policy import saved

    return saved.read(run / "models" / stage) or prompts.CHATML


def _example(run: Path) -> Problem:
    """A short question of the kind that the model was trained on."""
    file = run / "data" / tasks.RL
    known = read_jsonl(file, Problem) if file.exists() else iter(())
    return min(islice(known, SOME), key=lambda p: len(p.question), default=EXAMPLE)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path.parent} is not a run's folder: {path.name} cannot be read ({error})"
        ) from error


def _data(run: Path) -> list[dict[str, Any]]:
    """The data's files: rows, SHA-256, and where the problems come from. Reports beside them are not data."""
    result = []
    for path in sorted(run / "data" / name for name in tasks.FILES):
        if not path.exists():
            continue
        sources: Counter[str] = Counter()
        if path.name != tasks.TRACES:
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


def _add_own(exported: Exported, folder: Path) -> None:
    own = folder / OWN
    own.mkdir()
    manifest = {k: v for k, v in exported.manifest.items() if k != "command"} | {"data": exported.data}
    parts = {
        "recipe.json": config.resolved(exported.recipe),
        "manifest.json": manifest,
        "evaluations.json": {"stages": exported.stages, "gain": exported.gain},
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


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload an export to a hub repository, private unless said otherwise; returns its address.

    Raises RunError when the hub refuses or cannot be reached; the folder stays."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Export of acereason")
    except Exception as error:  # the HTTP library under the hub's differs by version, and so do its errors
        raise RunError(
            f"the export stands in {folder}, but could not be pushed to {repository}: {_why(error)}"
        ) from error
    return str(address)


def _why(error: Exception) -> str:
    """Why nothing could be uploaded, and what mends it."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set; unset it"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, ValueError):
        return first
    if getattr(error, "response", None) is None:
        return f"{constants.ENDPOINT} cannot be reached ({first}); try again with a connection"
    return f"{first}; log in with `hf auth login` as someone who may write there"
