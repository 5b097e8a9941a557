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
from multiprocessing.connection import Connection, wait
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
    crew = Crew(list(jobs), folders, workers, say)
    try:
        while crew.waiting or crew.going:
            crew.begin()
            crew.end()
    finally:
        crew.stop()
    return crew.failed


class Crew:
    """The arms that wait, those that are going on (by what tells their end), and those that failed."""

    def __init__(self, jobs: list[Job], folders: Folders, workers: int, say: Say) -> None:
        self.waiting, self.folders, self.workers, self.say = jobs, folders, workers, say
        self.going: dict[int, tuple[BaseProcess, Job, float]] = {}
        self.failed: dict[str, str] = {}
        self._results = Results(folders.results)
        self._total, self._done, self._begun = sum(map(work_of, jobs)), 0.0, time.monotonic()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["acereason.study.arm"])
        self._there, self._here = self._context.Pipe(
            duplex=False
        )  # closes with this process, however it ends

    def begin(self) -> None:
        """Start what can be started; set aside what never can."""
        unended = {j.address for j in self.waiting} | {j.address for _, j, _ in self.going.values()}
        for job in list(self.waiting):
            if job.start in self.failed:
                self.waiting.remove(job)
                why = self.failed[str(job.start)]
                self.failed[job.address] = f"not run: its start failed ({why})"
            elif len(self.going) < self.workers and job.start not in unended:
                self.waiting.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        self._results.forget(job)
        start = self.folders.model(job.start) if job.start else None
        folders = (self.folders.work, self.folders.results, self.folders.keep)
        process = self._context.Process(target=_arm, args=(job, start, *folders, self._there))
        process.start()
        self.going[process.sentinel] = process, job, time.monotonic()

    def end(self) -> None:
        """Wait until an arm ends, and say how it went."""
        ended = wait(list(self.going)) if self.going else []
        for sentinel in [s for s in self.going if s in ended]:
            process, job, begun = self.going.pop(sentinel)
            process.join()
            self._done += work_of(job)
            told = self._told(job, process.exitcode, time.monotonic() - begun)
            self.say(f"{self._done / self._total:4.0%}  {job.study} {job.name}, seed {job.seed}: {told}")

    def _told(self, job: Job, status: int | None, seconds: float) -> str:
        if status == 0:
            return f"{seconds:.0f} s{_scores(self._results.last(job.address))}; {self._left()}"
        if self._results.failure(job.address) is None:  # it could not say so itself
            self._results.fail(job, f"its process ended with status {status}")
        self.failed[job.address] = str(self._results.failure(job.address))
        return f"FAILED: {self.failed[job.address]}"

    def _left(self) -> str:
        """The time left as people say it."""
        seconds = (time.monotonic() - self._begun) / self._done * (self._total - self._done)
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min left" if hours else f"{minutes} min left"

    def stop(self) -> None:
        """End what is still going on; it is gone on with the next time."""
        for process, _, _ in self.going.values():
            process.terminate()
            process.join()


def _arm(job: Job, start: Path | None, work: Path, results: Path, keep: bool, runner: Connection) -> None:
    """In the arm's own process."""
    from acereason.study import arm  # imports torch, which this process does without

    arm.run(job, start, work, results, keep, runner)


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
