"""Running a plan: what has no record yet, so many arms at a time, in the order of the plan.

Killed anywhere, it goes on: an arm with a record is done, one with a folder is resumed, and a start whose
record came from another machine is run again only where a missing arm needs its model. An arm that fails is
kept with its reason, those that start from it are not run, and all others are.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from acereason.study.plan import Job, Plan
from acereason.study.records import Record, Results, model_of

Say = Callable[[str], None]


@dataclass
class Folders:
    """Where runs are made and where their records are kept; `keep` keeps checkpoints and responses. `own` is
    the folder of one's own model by its address."""

    work: Path
    results: Path
    keep: bool = False
    own: Mapping[str, Path] = field(default_factory=dict)

    def model(self, address: str) -> Path | None:
        """The model of that address, or None while there is none."""
        return self.own.get(address) or model_of(self.work, address)


@dataclass
class Progress:
    """How far it is: the processor seconds of done work per unit of expected work give the time left."""

    total: float
    workers: int
    done: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def left(self) -> str:
        """The time left as people say it."""
        if not self.done:
            return "time left not known yet"
        seconds = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min left" if hours else f"{minutes} min left"


def missing(plan: Plan, folders: Folders) -> list[Job]:
    """The jobs to run, starts before what starts from them."""
    results = Results(folders.results)
    wanted: dict[str, Job] = {}

    def want(job: Job) -> None:
        if job.start and folders.model(job.start) is None:
            want(plan.jobs[job.start])
        wanted.setdefault(job.address, job)

    for addresses in plan.arms.values():
        for address in addresses.values():
            if results.get(address) is None:
                want(plan.jobs[address])
    return list(wanted.values())


def run(jobs: Sequence[Job], folders: Folders, workers: int, say: Say) -> dict[str, str]:
    """Run the jobs; returns why each that failed or could not be run did not end, by address."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["acereason.study.arm"])
    progress = Progress(sum(map(work_of, jobs)), workers)
    waiting, going, failed = list(jobs), dict[int, tuple[BaseProcess, Job, float]](), dict[str, str]()
    try:
        while waiting or going:
            _begin(waiting, going, failed, context, folders, workers, say)
            ended = wait([p.sentinel for p, _, _ in going.values()]) if going else []
            for sentinel in [s for s in going if s in ended]:
                process, job, begun = going.pop(sentinel)
                process.join()
                _ended(job, process.exitcode, time.monotonic() - begun, failed, folders, progress, say)
    finally:
        for process, _, _ in going.values():
            process.terminate()
            process.join()
    return failed


def _begin(
    waiting: list[Job],
    going: dict[int, tuple[BaseProcess, Job, float]],
    failed: dict[str, str],
    context: multiprocessing.context.ForkServerContext,
    folders: Folders,
    workers: int,
    say: Say,
) -> None:
    """Start what can be started; set aside what never can."""
    unended = {j.address for j in waiting} | {j.address for _, j, _ in going.values()}
    for job in list(waiting):
        if job.start in failed:
            waiting.remove(job)
            failed[job.address] = f"not run: its start failed ({failed[str(job.start)].splitlines()[0]})"
        elif len(going) < workers and job.start not in unended:
            waiting.remove(job)
            start = folders.model(job.start) if job.start else None
            target = (job, start, folders.work, folders.results, folders.keep)
            process = context.Process(target=_arm, args=target)
            process.start()
            going[process.sentinel] = process, job, time.monotonic()


def _arm(job: Job, start: Path | None, work: Path, results: Path, keep: bool) -> None:
    """In the arm's own process."""
    from acereason.study import arm  # imports torch, which this process does without

    arm.run(job, start, work, results, keep)


def _ended(
    job: Job,
    status: int | None,
    seconds: float,
    failed: dict[str, str],
    folders: Folders,
    progress: Progress,
    say: Say,
) -> None:
    progress.done += work_of(job)
    name = f"{job.study} {job.name}, seed {job.seed}"
    share = f"{progress.done / progress.total:4.0%}"
    if status == 0:
        record = Results(folders.results).get(job.address)
        say(f"{share}  {name}: {seconds:.0f} s{_scores(record)}; {progress.left()}")
        return
    why = Results(folders.results).failure(job.address) or f"its process ended with status {status}"
    failed[job.address] = why
    say(f"{share}  {name}: FAILED: {why.strip().splitlines()[-1]}")


def _scores(record: Record | None) -> str:
    if record is None or not record.outcomes:
        return ""
    last = list(record.outcomes.values())[-1]
    parts = (f"{d} {100 * sum(o.right) / (o.k * len(o.right)):.1f} %" for d, o in last.items())
    return ", " + ", ".join(parts)


def work_of(job: Job) -> float:
    """About how long a job takes, in units that only compare: responses sampled and learned, and traces."""
    recipe = job.recipe
    stages = sum(s["steps"] * s["prompts"] * s["group"] for s in recipe.get("stage", []))
    tasks = recipe["curate"].get("tasks", {}).values()
    asked = (
        sum(t["held_out"] for t in tasks) * recipe["evaluation"]["k"] * (len(recipe.get("stage", [])) or 1)
    )
    traces = 0.0
    if "sft" in recipe:
        share = recipe["curate"].get("sft_share", 1.0) * recipe["curate"].get("responses_per_prompt", 1)
        traces = share * recipe["sft"]["epochs"] * sum(t["sft_prompts"] for t in tasks)
    return float(3 * stages + asked + 4 * traces + 5000)
