"""Served models under faults: nothing is lost, nothing counted wrong, and messages say what to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import evaluate_tools as tools
from acereason.errors import SamplingError
from acereason.evaluate.benchmarks.catalogue import Loaded
from acereason.evaluate.benchmarks.job import FromModel, run
from acereason.evaluate.benchmarks.scores import Score
from acereason.evaluate.benchmarks.store import AnswerProtocol
from acereason.policy.model import load_tokenizer
from acereason.progress import Quiet
from acereason.sample.servers.served import Served

K = 8
LOADED = Loaded("digits", "digits", K, tools.PROBLEMS, "6 questions")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def fake(folder: Path) -> tools.Fake:
    return tools.Fake(load_tokenizer(folder), limit=128)


@pytest.fixture
def url(fake: tools.Fake) -> Iterator[str]:
    with tools.serving(fake) as url:
        yield url


def evaluate(url: str, folder: Path, out: Path, budget: int = 16, patience: float = 20.0) -> Score:
    served = Served(url.split(","), concurrency=4, patience=patience)
    try:
        policy = served.policy(str(folder), "plain")
        protocol = AnswerProtocol(str(served.name), "servers", "", "plain", budget=budget)
        return run([LOADED], FromModel(policy, served, protocol), out, progress=Quiet())[0]
    finally:
        served.close()


def responses(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "responses-digits.jsonl").read_text().splitlines()]


def test_a_served_model_is_asked_once_a_sample_with_seeds_of_their_own(
    fake: tools.Fake, url: str, folder: Path, tmp_path: Path
) -> None:
    found = evaluate(url, folder, tmp_path)
    assert (found.n, found.k) == (6, K) and 0 < found.mean < 1
    assert len(set(fake.seeds)) == len(fake.seeds) == 6 * K
    assert min(abs(a - b) for a in fake.seeds for b in fake.seeds if a != b) > K  # no neighbours
    assert evaluate(url, folder, tmp_path) == found and len(fake.seeds) == 6 * K


def test_overload_half_answers_and_nonsense_are_asked_again(
    fake: tools.Fake, url: str, folder: Path, tmp_path: Path
) -> None:
    plain = evaluate(url, folder, tmp_path / "plain")
    fake.faults = [429, "half", 500, "garbled", 503, "half", 429, None, "garbled", 502]
    fake.seeds.clear()
    assert evaluate(url, folder, tmp_path / "faults").right == plain.right
    assert not fake.faults and len(responses(tmp_path / "faults")) == 6 * K


def test_a_server_that_restarts_in_the_middle(fake: tools.Fake, folder: Path, tmp_path: Path) -> None:
    with tools.serving(fake) as url:
        plain = evaluate(url, folder, tmp_path / "plain")
    port = int(url.rpartition(":")[2])
    down = threading.Event()
    fake.faults = [*([None] * 15), down.set, *([500] * 6)]
    done: list[Score] = []
    with ExitStack() as stack:
        stack.enter_context(tools.serving(fake, port))
        work = threading.Thread(target=lambda: done.append(evaluate(url, folder, tmp_path / "restart")))
        work.start()
        assert down.wait(30)
        stack.close()
        time.sleep(0.3)
        stack.enter_context(tools.serving(fake, port))
        work.join(60)
    assert done and done[0].right == plain.right


def test_a_server_that_stays_away_keeps_what_was_answered(
    fake: tools.Fake, folder: Path, tmp_path: Path
) -> None:
    gone = threading.Event()
    fake.faults = [*([None] * 12), gone.set, *([500] * 100)]

    def fail() -> None:
        gone.wait(30)
        fake.faults = [500] * 1000

    with tools.serving(fake) as url, pytest.raises(SamplingError) as caught:
        threading.Thread(target=fail).start()
        evaluate(url, folder, tmp_path, patience=1.0)
    kept = len(responses(tmp_path))
    assert kept >= 12 and f"{kept} of {6 * K} responses are kept" in str(caught.value)
    fake.faults.clear()
    fake.seeds.clear()
    with tools.serving(fake) as url:
        evaluate(url, folder, tmp_path)
    assert len(fake.seeds) == 6 * K - kept


def test_another_model_or_none_is_named(fake: tools.Fake, url: str, folder: Path) -> None:
    with pytest.raises(SamplingError, match=r"serves 'tiny', not 'large'; give one of those"):
        Served([url], "large")
    with pytest.raises(SamplingError, match="is no server that answers"):
        Served(["http://127.0.0.1:9"])


def test_a_context_too_small_is_said_before_anything_is_asked(
    fake: tools.Fake, url: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SamplingError, match=r"the context of 128; lower --budget to at most 1\d\d"):
        evaluate(url, folder, tmp_path, budget=120)
    assert fake.asked == 0


def test_a_request_that_is_refused_ends_it_with_what_was_found(
    fake: tools.Fake, url: str, folder: Path, tmp_path: Path
) -> None:
    fake.faults = [*([None] * 10), 400]
    with pytest.raises(SamplingError, match=r"refuses a request: status 400.* responses are kept in"):
        evaluate(url, folder, tmp_path)
    assert 0 < len(responses(tmp_path)) < 6 * K  # how many are back by then depends on the machine
    assert evaluate(url, folder, tmp_path).n == 6


def test_several_servers_share_the_work(fake: tools.Fake, folder: Path, tmp_path: Path) -> None:
    other = tools.Fake(fake.tokenizer, 100)
    with tools.serving(fake) as first, tools.serving(other) as second:
        found = evaluate(f"{first},{second}", folder, tmp_path)
    assert fake.seeds and other.seeds and len(fake.seeds) + len(other.seeds) == 6 * K == found.n * K
    other.model = "another"
    with (
        tools.serving(fake) as first,
        tools.serving(other) as second,
        pytest.raises(SamplingError, match="serves 'another', not 'tiny'"),
    ):
        Served([first, second])
