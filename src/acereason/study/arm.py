"""One arm in a process of its own: an ordinary run in its folder, then its record.

Processes are forked from a server that has imported everything already, one for each arm; so an arm that
dies takes nothing along, and none pays for the imports. Loaded only there: it imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from acereason.native import mkl

mkl.enable()  # before torch is imported

from acereason import program, runs  # noqa: E402
from acereason.errors import AceReasonError, RunError  # noqa: E402
from acereason.evaluate import summary  # noqa: E402
from acereason.evaluate.benchmarks.job import fingerprint as weights_of  # noqa: E402
from acereason.files import lock  # noqa: E402
from acereason.progress import Quiet  # noqa: E402
from acereason.runs import Run, read_metrics  # noqa: E402
from acereason.study.plan import Job  # noqa: E402
from acereason.study.records import Outcome, Record, Results, Training, model_of, parsed  # noqa: E402
from acereason.study.spec import fingerprint  # noqa: E402

POINTS = 30  # of a training curve
PATIENCE = 60  # seconds


def run(
    job: Job, start: Path | None, work: Path, results: Path, keep: bool, runner: Connection | None = None
) -> None:
    """Do a job and keep its record, or why it failed. The process's exit status says which. `runner` is the
    end of a pipe whose other end the runner alone holds: it closes when the runner is gone."""
    if runner is not None:
        threading.Thread(target=_end_with, args=(runner,), daemon=True).start()
    try:
        _run(job, start, work, Results(results), keep)
    except Exception as error:
        Results(results).fail(job, _said(error, work))
        raise SystemExit(2 if isinstance(error, AceReasonError) else 1) from error


def _said(error: Exception, work: Path) -> str:
    """What went wrong in one line without this machine's paths, and where unless it was said on purpose."""
    text = f"{type(error).__name__}: {error}".replace(f"{work}/", "").replace("\n", " ")
    if isinstance(error, AceReasonError):
        return text
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} ({Path(last.filename).name}, line {last.lineno})"


def _run(job: Job, start: Path | None, work: Path, results: Results, keep: bool) -> None:
    begun = _processor()
    if job.start and start is None:
        raise RunError(f"the model it starts from, {job.start}, is not there")
    run, resumed = _opened(job, work / job.address, start)
    with run:
        program.run_all(run, Quiet())
        results.put(of_run(run, job, _processor() - begun, resumed, start))
    if not keep:
        for name in ("checkpoints", "responses", "data", "tokens"):
            shutil.rmtree(run.path / name, ignore_errors=True)


def _opened(job: Job, folder: Path, start: Path | None) -> tuple[runs.Run, bool]:
    """The job's run, gone on with where it was left; begun anew where that cannot be."""
    recipe = parsed(job, start)
    if folder.exists():
        _wait_for(folder / ".lock")
        try:
            return runs.resume(folder, recipe), True
        except RunError:
            shutil.rmtree(folder)
    return runs.create(folder, recipe), False


def _wait_for(path: Path) -> None:
    """Wait until a process that was left behind by a kill has ended; RunError when it does not."""
    for _ in range(PATIENCE):
        try:
            return lock(path).close()
        except RunError:
            time.sleep(1)
    return lock(path).close()


def _end_with(runner: Connection) -> None:
    """End when the runner is gone: it is run again from there, and nobody would start what comes next."""
    with contextlib.suppress(EOFError, OSError):
        runner.recv()
    os._exit(3)


def of_run(run: Run, job: Job, seconds: float, resumed: bool, start: Path | None = None) -> Record:
    """The record of a finished run."""
    left = model_of(run.path.parent, run.path.name)
    rows = list(read_metrics(run.path))
    sft = [r for r in rows if r["kind"] == "sft"]
    return Record(
        address=job.address,
        name=job.name,
        study=job.study,
        seed=job.seed,
        split=run.recipe.curate.split,
        phase=job.phase,
        start=job.start,
        outcomes={name: _outcomes(summary.load(run, name)) for name in summary.evaluated(run.recipe)},
        training={s.name: _training(rows, s.name) for s in run.recipe.stage},
        sft_tokens=sum(r["tokens"] for r in sft),
        sft_steps=len(sft),
        seconds=round(seconds, 1),
        resumed=resumed,
        version=_version(run),
        recipe=job.recipe,
        wall=round(sum(r["seconds"]["total"] for r in rows if r["kind"] == "rl"), 1),
        weights=weights_of(str(left)) if left else "",
        began=weights_of(str(start)) if start else "",
    )


def _outcomes(results: Mapping[str, summary.Result]) -> dict[str, Outcome]:
    return {domain: _outcome(result) for domain, result in results.items()}


def _outcome(result: summary.Result) -> Outcome:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for family, names, row in zip(result.families, result.modes, result.right, strict=True):
        for mode, right in zip(names, row, strict=True):
            counts[f"{family}/{mode}"][0] += 1
            counts[f"{family}/{mode}"][1] += right is True
    return Outcome(
        fingerprint(result.ids),
        len(result.right[0]),
        [sum(value is True for value in row) for row in result.right],
        {name: (n, right) for name, (n, right) in sorted(counts.items())},
        sum(value is None for row in result.right for value in row),
    )


def _training(rows: Sequence[Mapping[str, Any]], stage: str) -> Training:
    steps = [r for r in rows if r["kind"] == "rl" and r["stage"] == stage]
    numbers = {
        "reward": [r["reward"] for r in steps],
        "entropy": [r["H_T"] for r in steps],
        "length": [r["length"]["mean"] for r in steps],
        "truncated": [r["truncated"] for r in steps],
        "T": [r["T"] for r in steps],
    }
    return Training(len(steps), sum(r["tokens"] for r in steps), {k: _thinned(v) for k, v in numbers.items()})


def _thinned(values: Sequence[float]) -> list[float]:
    parts = np.array_split(np.asarray(values, float), min(POINTS, max(1, len(values))))
    return [float(f"{part.mean():.5g}") for part in parts if len(part)]


def _version(run: Run) -> str:
    manifest = json.loads((run.path / "manifest.json").read_text())
    packages, machine = manifest["packages"], manifest["machine"]["processor"]
    return f"acereason {packages['acereason']} ({_code()}), torch {packages['torch']}, {machine}"


def _code() -> str:
    """A hash of this package's source, since versions change more slowly than code."""
    root = Path(runs.__file__).parent
    return fingerprint([p.read_text() for p in sorted(root.rglob("*")) if p.suffix in (".py", ".cpp", ".h")])


def _processor() -> float:
    """Seconds of the processor that this process and its ended children took."""
    own, children = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
