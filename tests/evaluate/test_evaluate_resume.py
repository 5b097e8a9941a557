"""An evaluation's folder: killed anywhere it goes on, every sample once; another protocol is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

import evaluate_tools as tools
from acereason.errors import DataError, RunError, SamplingError
from acereason.evaluate.benchmarks import scores
from acereason.evaluate.benchmarks.catalogue import Loaded
from acereason.evaluate.benchmarks.collect import collect
from acereason.evaluate.benchmarks.job import FromModel, fingerprint, run
from acereason.evaluate.benchmarks.store import AnswerProtocol, Reply, Store, folder_of
from acereason.files import write_jsonl
from acereason.policy import model as models
from acereason.policy.policy import Policy
from acereason.problems import FailedTest, Got, Problem, Response, Verdict
from acereason.progress import Quiet
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion, Request, Sampler
from acereason.verify import Judge

K = 16
LOADED = Loaded("digits", "digits", K, tools.PROBLEMS, "6 questions")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.make_model(tmp_path_factory.mktemp("model"))


def asked(folder: Path, **changes: Any) -> FromModel:
    policy = Policy(models.load_model(folder), models.load_tokenizer(folder), "plain")
    protocol = AnswerProtocol(
        str(folder), "embedded", fingerprint(str(folder)), "plain", budget=16, **changes
    )
    return FromModel(policy, EmbeddedSampler(policy.model, slots=8, eos_ids=policy.end_ids), protocol)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def samples(out: Path) -> Counter[tuple[str, int]]:
    return Counter((row["problem_id"], row["sample"]) for row in lines(out / "responses-digits.jsonl"))


def table(out: Path) -> list[Any]:
    return list(json.loads((out / "results.json").read_text())["scores"])


def test_an_evaluation_from_beginning_to_end(folder: Path, tmp_path: Path) -> None:
    found = run([LOADED], asked(folder), tmp_path, progress=Quiet())[0]
    assert (found.n, found.k) == (6, K) and 0.2 < found.mean < 0.9
    assert found.right == next(s["right"] for s in table(tmp_path))
    assert set(samples(tmp_path).values()) == {1} and len(samples(tmp_path)) == 6 * K
    assert found.pass_at_k[0].mean == pytest.approx(found.mean)
    assert found.truncated == 0.0 and found.tokens_mean == pytest.approx(5, abs=1.5)
    verdicts = lines(tmp_path / "verdicts-digits.jsonl")
    assert {row["key"] for row in verdicts} == {
        row["key"] for row in lines(tmp_path / "responses-digits.jsonl")
    }
    again = run([LOADED], asked(folder), tmp_path, progress=Quiet())[0]
    assert msgspec.json.encode(again) == msgspec.json.encode(found)
    assert lines(tmp_path / "verdicts-digits.jsonl") == verdicts  # nothing was asked or judged twice


def test_what_a_program_answered_is_kept_and_verdicts_of_before_are_read(tmp_path: Path) -> None:
    verdict = Verdict("wrong", 0, failed=(FailedTest(2, Got("x", size=1)), FailedTest(3)))
    with Store(tmp_path, "programs") as store:
        store.add(Reply("a", "p", 0, "text", 4, "stop"))
        store.judge("a", verdict)
    (row,) = lines(tmp_path / "verdicts-programs.jsonl")
    assert msgspec.convert(row["failed"], tuple[FailedTest, ...]) == verdict.failed
    (tmp_path / "verdicts-programs.jsonl").write_text('{"key": "a", "outcome": "wrong", "reward": 0}\n')
    with Store(tmp_path, "programs") as store:
        assert store.facts["a"].right is False and not list(store.owed())


def test_more_samples_keep_those_that_are_there(folder: Path, tmp_path: Path) -> None:
    small = run([LOADED], asked(folder), tmp_path, k=4, progress=Quiet())[0]
    begun = lines(tmp_path / "responses-digits.jsonl")
    large = run([LOADED], asked(folder), tmp_path, progress=Quiet())[0]
    assert lines(tmp_path / "responses-digits.jsonl")[: len(begun)] == begun
    assert [row[:4] for row in large.right] == small.right
    fewer = run([LOADED], asked(folder), tmp_path, k=4, progress=Quiet())[0]
    assert fewer.right == small.right


def test_a_changed_question_is_asked_again_and_the_rest_is_not(folder: Path, tmp_path: Path) -> None:
    run([LOADED], asked(folder), tmp_path, k=2, progress=Quiet())
    changed = [msgspec.structs.replace(tools.PROBLEMS[0], question="Say a digit, 5."), *tools.PROBLEMS[1:]]
    run([LOADED._replace(problems=changed)], asked(folder), tmp_path, k=2, progress=Quiet())
    assert samples(tmp_path)["p0", 0] == 2 and samples(tmp_path)["p1", 0] == 1


def test_another_protocol_is_refused_with_the_difference(folder: Path, tmp_path: Path) -> None:
    run([LOADED], asked(folder), tmp_path, k=1, progress=Quiet())
    with pytest.raises(RunError, match=r"differs in temperature: 0\.6 → 1\.0; seed: 1 → 2"):
        run([LOADED], asked(folder, temperature=1.0, seed=2), tmp_path, k=1, progress=Quiet())
    other = asked(folder)
    other = other._replace(protocol=msgspec.structs.replace(other.protocol, weights="0"))
    with pytest.raises(RunError, match=r"weights: '[0-9a-f]{16}' → '0'"):
        run([LOADED], other, tmp_path, k=1, progress=Quiet())
    weights = folder / "model.safetensors"
    before = fingerprint(str(folder))
    data = weights.read_bytes()
    try:
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert fingerprint(str(folder)) != before
    finally:
        weights.write_bytes(data)


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_is_cut_off_and_owed(cut: int, folder: Path, tmp_path: Path) -> None:
    whole = run([LOADED], asked(folder), tmp_path, k=3, progress=Quiet())
    for name in ("responses", "verdicts"):
        path = tmp_path / f"{name}-digits.jsonl"
        path.write_bytes(path.read_bytes()[:-cut])
    again = run([LOADED], asked(folder), tmp_path, k=3, progress=Quiet())
    assert again[0].right == whole[0].right
    assert set(samples(tmp_path).values()) == {1} and len(samples(tmp_path)) == 18


def test_a_second_process_is_refused(folder: Path, tmp_path: Path) -> None:
    with (
        Store(folder_of(tmp_path, asked(folder).protocol), "digits"),
        pytest.raises(RunError, match="another"),
    ):
        run([LOADED], asked(folder), tmp_path, k=1, progress=Quiet())


class Unsure:
    """Cannot judge some responses, as when the sandbox is lost."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.broken = judge, True

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        if self.broken and problem.id == "p3":
            future: Future[Verdict] = Future()
            future.set_result(Verdict("unjudged", None, detail="the sandbox was lost"))
            return future
        return self.judge.submit(problem, response)


class Breaks:
    """A sampler that ends in the middle."""

    remote = False

    def __init__(self, sampler: Sampler, after: int) -> None:
        self.sampler, self.after = sampler, after

    def close(self) -> None:
        self.sampler.close()

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for number, completion in enumerate(self.sampler.sample(requests)):
            if number == self.after:
                raise SamplingError("no server has answered for 900 s")
            yield completion

    def update(self, weights: Any) -> None:
        return None


def test_what_cannot_be_judged_is_owed_and_never_wrong(folder: Path, tmp_path: Path) -> None:
    policy, sampler, protocol = asked(folder)
    with Judge(1) as judge:
        unsure = Unsure(judge)
        with Store(folder_of(tmp_path, protocol), "digits") as store:
            with pytest.raises(DataError, match=r"4 responses could not be judged.*the sandbox was lost"):
                collect(policy, sampler, unsure, tools.PROBLEMS, 4, protocol, store)
            assert sum(fact.outcome is None for fact in store.facts.values()) == 4
        unsure.broken = False
        asked_again: list[int] = []
        with Store(folder_of(tmp_path, protocol), "digits") as store:
            facts = collect(policy, sampler, unsure, tools.PROBLEMS, 4, protocol, store, asked_again.append)
    assert not asked_again  # judged again, not sampled again
    assert all(fact is not None and fact.outcome for row in facts for fact in row)


def test_a_sampler_that_ends_loses_nothing(folder: Path, tmp_path: Path) -> None:
    policy, sampler, protocol = asked(folder)
    with Judge(1) as judge, Store(folder_of(tmp_path, protocol), "digits") as store:
        with pytest.raises(SamplingError, match=r"900 s\. 10 of 24 responses are kept .* the other 14"):
            collect(policy, Breaks(sampler, 10), judge, tools.PROBLEMS, 4, protocol, store)
        new: list[int] = []
        collect(policy, sampler, judge, tools.PROBLEMS, 4, protocol, store, new.append)
        assert len(new) == 14


def test_a_prompt_that_leaves_no_room_is_said_before_anything_is_asked(folder: Path, tmp_path: Path) -> None:
    policy, sampler, protocol = asked(folder)
    long = msgspec.structs.replace(protocol, budget=120)
    with Judge(1) as judge, Store(tmp_path, "digits") as store:
        with pytest.raises(SamplingError, match=r"together more than the context of 128; lower --budget to"):
            collect(policy, sampler, judge, tools.PROBLEMS, 1, long, store)
        assert not store.facts


def test_an_incomplete_score_is_refused(folder: Path, tmp_path: Path) -> None:
    policy, sampler, protocol = asked(folder)
    with Judge(1) as judge, Store(folder_of(tmp_path, protocol), "digits") as store:
        facts = collect(policy, sampler, judge, tools.PROBLEMS, 2, protocol, store)
    with pytest.raises(DataError, match="6 samples missing"):
        scores.score(LOADED, facts, 3)


def test_a_line_of_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "responses-x.jsonl").write_text('{"key": "a"}\n')
    with (
        pytest.raises(DataError, match=r"responses-x.jsonl, line 1: expected a _Header"),
        Store(tmp_path, "x"),
    ):
        pass


def test_a_reply_keeps_text_that_json_cannot_hold(tmp_path: Path) -> None:
    with Store(tmp_path, "x") as store:
        store.add(Reply("k", "p", 0, "caf\u00e9 \x00 \ufffd", 3, "stop"))
        assert [reply.text for reply in store.owed()] == ["caf\u00e9 \x00 \ufffd"]


def start(folder: Path, problems: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "acereason.cli", "evaluate", str(folder), "-b", f"digits={problems}", "-k",
         str(40 * K), "--budget", "16", "--format", "plain", "-o", str(out), "--json"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_killed_at_random_moments_every_sample_is_there_once(folder: Path, tmp_path: Path) -> None:
    problems, out = tmp_path / "digits.jsonl", tmp_path / "out"
    write_jsonl(problems, tools.PROBLEMS)
    log = out / "responses-digits.jsonl"
    draw = random.Random(os.getpid())
    for _ in range(2):
        process = start(folder, problems, out)
        size = log.stat().st_size if log.exists() else 0
        until = size + draw.randrange(1, 60_000)
        while process.poll() is None and not (log.exists() and log.stat().st_size >= until):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start(folder, problems, out)
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors.decode()
    assert set(samples(out).values()) == {1} and len(samples(out)) == 6 * 40 * K
    digits = Loaded("digits", "digits", K, tools.PROBLEMS, f"6 questions of {problems}")
    run([digits], asked(folder), tmp_path / "whole", k=40 * K, progress=Quiet())
    assert table(out) == table(tmp_path / "whole")
