"""The door: outcomes, limits, sharing, threads, HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from acereason.errors import ConfigError, SandboxUnavailable
from acereason.problems import Problem, Response, Test, Verdict
from acereason.verify import Judge, verify
from acereason.verify.code import Examiner, printable, same_output, same_result
from acereason.verify.sandbox import filters
from acereason.verify.sandbox.client import Limits, Lost, Zygote, job_bytes
from acereason.verify.serve import RemoteJudge, Server, serve

SUM = Problem(
    "sum", "code", "", tests=tuple(Test("functional", f"[{a}, 2]", str(a + 2)) for a in range(10)),
    function="add", time_limit=0.4, memory_limit=256,
)  # fmt: skip
ECHO = Problem(
    "echo", "code", "", tests=tuple(Test("stdin", f"{w}\n", f"{w}\n") for w in "abc"), time_limit=0.4
)
HALF = Problem("half", "math", "", answer="\\frac{1}{2}")


def program(code: str, finish: str = "stop") -> Response:
    return Response("p", 0, f"thoughts</think>\n```python\n{code}\n```", finish=finish)  # type: ignore[arg-type]


def box(answer: str) -> Response:
    return Response("p", 0, f"thoughts</think> \\boxed{{{answer}}}")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(1) as found:
        yield found


@pytest.mark.parametrize(
    ("problem", "response", "outcome"),
    [
        (HALF, box("0.5"), "correct"),
        (HALF, box("0.51"), "wrong"),
        (HALF, Response("p", 0, "\\boxed{0.5}"), "no_answer"),
        (HALF, Response("p", 0, "</think> one half"), "no_answer"),
        (HALF, Response("p", 0, "</think> \\boxed{0.5}", finish="length"), "no_answer"),
        (HALF, Response("p", 0, "\\boxed{0.5}</think> unsure"), "no_answer"),
        (Problem("q", "math", ""), box("1"), "unjudged"),
        (SUM, program("def add(a, b): return a + b"), "correct"),
        (SUM, program("def add(a, b): return a - b"), "wrong"),
        (SUM, program("def add(a, b):\n  while True: pass"), "timeout"),
        (SUM, program("def subtract(a, b): return a - b"), "wrong"),
        (SUM, program("def add(a, b): return a + b", "length"), "no_answer"),
        (SUM, Response("p", 0, "</think> def add"), "no_answer"),
        (SUM, program("   "), "no_answer"),
        (ECHO, program("print(input())"), "correct"),
        (ECHO, program("print('a')"), "wrong"),
        (Problem("none", "code", ""), program("pass"), "unjudged"),
        (Problem("bad", "code", "", tests=SUM.tests), program("pass"), "unjudged"),
        (
            Problem("bad", "code", "", tests=(Test("functional", "1", "2"),), function="f"),
            program("pass"),
            "unjudged",
        ),
    ],
)
def test_outcomes(judge: Judge, problem: Problem, response: Response, outcome: str) -> None:
    verdict = judge.verify(problem, response)
    assert verdict.outcome == outcome, verdict
    assert judge.counters[outcome] > 0


def test_memory_is_limited_and_named(judge: Judge) -> None:
    verdict = judge.verify(ECHO, program("x = bytearray(1 << 34)"))
    assert (verdict.outcome, "MemoryError" in verdict.detail) == ("wrong", True)


def test_expected_outputs_are_nowhere_in_the_sandbox(judge: Judge) -> None:
    secret = "the-expected-output"
    problem = Problem("s", "code", "", tests=(Test("stdin", "x\n", secret), Test("stdin", "y\n", "y")))
    look = (
        "import gc, sys\nfound = [o for o in gc.get_objects() if 'expected-' + 'output' in repr(o)[:9999]]\n"
        "print(len(found))"
    )
    assert judge.verify(problem, program(look)).outcome == "wrong"
    job = job_bytes(look, [test.input for test in problem.tests], None)
    assert secret.encode() not in job


def test_equal_programs_share_one_run() -> None:
    with Judge(1) as judge:
        futures = [judge.submit(SUM, program("def add(a, b): return a + b")) for _ in range(20)]
        assert {future.result().outcome for future in futures} == {"correct"}
        assert judge.counters["cached"] == 19
        assert judge.counters["correct"] == 20
        other = Problem("sum", "code", "", tests=SUM.tests[:1], function="add")
        judge.verify(other, program("def add(a, b): return a + b"))
        assert judge.counters["cached"] == 19


def test_the_same_program_gets_the_same_verdict() -> None:
    """Sets of strings, hashes and random numbers do not change from one process to the next."""
    tests = (Test("stdin", "x\n", ""),)
    code = "import random\nprint(list({'a','b','c','d','e'}), hash('x'), random.random())"
    problem = Problem("h", "code", "", tests=tests)
    outputs = set()
    for _ in range(3):
        zygote = Zygote()
        for _ in range(2):
            outputs.add(zygote.run(job_bytes(code, ["x\n"], None), 1, Limits()).output)
        zygote.close()
    assert len(outputs) == 1
    right = Problem("h", "code", "", tests=(Test("stdin", "x\n", outputs.pop().decode()),))
    assert problem.tests != right.tests
    assert verify(right, program(code)).outcome == "correct"


def test_a_lost_sandbox_is_replaced_and_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    examiner = Examiner()
    try:
        code = "def add(a, b): return a + b"
        assert examiner.judge(SUM, code).outcome == "correct"
        process = examiner.zygote()._process
        process.kill()
        process.wait()  # the kernel kills what is below it on its exit
        assert examiner.judge(SUM, code).outcome == "correct"
        assert examiner.lost == 1

        def lose(*_: Any, **__: Any) -> None:
            raise Lost("gone")

        monkeypatch.setattr(Zygote, "started", lose)
        monkeypatch.setattr("acereason.verify.code.self_test", lambda zygote: None)
        verdict = examiner.judge(SUM, code)
        assert (verdict.outcome, verdict.reward) == ("unjudged", None)
    finally:
        examiner.close()


def test_a_machine_that_cannot_isolate_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(SandboxUnavailable, match=r"Linux.*HTTP"):
        Zygote()


def test_a_failed_self_test_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acereason.verify.sandbox.selftest.ATTACKS", {"print something": "print('out')"})
    with Judge(1) as judge, pytest.raises(SandboxUnavailable, match="print something"):
        judge.verify(SUM, program("def add(a, b): return a + b"))


def test_without_namespaces_the_verdicts_are_the_same() -> None:
    with Judge(1, namespaces=False) as judge:
        assert judge.verify(SUM, program("def add(a, b): return a + b")).outcome == "correct"
        numpy = "import numpy\ndef add(a, b): return numpy.int64(a + b)"
        assert judge.verify(SUM, program(numpy)).outcome == "correct"


def test_filters_exist_for_both_architectures() -> None:
    for machine in ("x86_64", "aarch64"):
        built = filters.build(machine)
        assert built is not None and len(built) % 8 == 0 and len(built) // 8 < 4096
    assert filters.build("riscv64") is None


@pytest.mark.parametrize(
    ("expected", "answer", "same"),
    [
        ("1 2\n3\n", b"1 2\n3", True), ("1\n", b" 1 \n\n", True), ("1.50\n", b"1.5", True),
        ("1\n2\n", b"1", False), ("1\n", b"1\n2", False), ("a\n", b"A", False), ("nan", b"NaN", False),
        ("1\n", b"\xff1", False), ("", b"", True), ("1", b"1\0", False), ("12", b"1 2", False),
    ],
)  # fmt: skip
def test_comparison_of_outputs(expected: str, answer: bytes, same: bool) -> None:
    assert same_output(expected, answer) is same


@pytest.mark.parametrize(
    ("expected", "answer", "same"),
    [
        ("[1, 2]", b"[1,2]", True), ("1", b"1.0", True), ('"a"', b'"a"', True), ("null", b"null", True),
        ("1", b'"1"', False), ("[1]", b"[1,2]", False), ("1", b"", False), ("1", b"1 1", False),
        ("NaN", b"NaN", False), ("0.3", b"0.30000000000000004", False), ("1", b"[" * 9999, False),
    ],
)  # fmt: skip
def test_comparison_of_results(expected: str, answer: bytes, same: bool) -> None:
    assert same_result(expected, answer) is same


def test_details_are_safe_to_print() -> None:
    assert printable("a\x1b[2J\n\udcff").isprintable()


def test_verdicts_are_the_same_from_every_kind_of_caller(judge: Judge) -> None:
    pairs = [(HALF, box("0.5")), (HALF, box("\\left(5")), (SUM, program("def add(a, b): return b + a"))]
    here = [judge.verify(*pair).outcome for pair in pairs]
    with ThreadPoolExecutor(3) as pool:
        assert [v.outcome for v in pool.map(lambda pair: verify(*pair), pairs)] == here

    async def together() -> list[Verdict]:
        return await asyncio.gather(*(judge.averify(*pair) for pair in pairs))

    assert [v.outcome for v in asyncio.run(together())] == here
    assert sorted((i, v.outcome) for i, v in judge.stream(pairs)) == list(enumerate(here))


def test_text_that_no_file_can_hold_is_judged(judge: Judge, server: str) -> None:
    broken = [(HALF, box("\ud8005")), (SUM, program("x = '\udcff'\ndef add(a, b): return x"))]
    for problem, response in broken:
        verdict = judge.verify(problem, response)
        assert verdict.outcome == "wrong"
        json.dumps(verdict.extracted).encode()
        verdict.extracted.encode()  # type: ignore[union-attr]
        with RemoteJudge(server, token="secret") as remote:
            assert remote.verify(problem, response).outcome == "wrong"


def test_an_error_abandons_what_has_not_begun() -> None:
    slow = "import time\ndef add(a, b):\n  time.sleep(0.3)\n  return {}"
    with pytest.raises(KeyboardInterrupt), Judge(1) as judge:
        futures = [judge.submit(SUM, program(slow.format(i))) for i in range(20)]
        futures[0].result()
        raise KeyboardInterrupt
    assert "unjudged" in {future.result().outcome for future in futures}
    with pytest.raises(RuntimeError, match="closed"):
        judge.submit(HALF, box("1"))


def test_an_unknown_mode_or_domain_is_named() -> None:
    with pytest.raises(ConfigError, match="strict"):
        Judge(mode="lenient")
    with Judge(1) as judge, pytest.raises(ConfigError, match="module:attribute"):
        judge.submit(Problem("p", "poetry", ""), box("1"))


def test_lcb_mode_provides_its_imports_and_strict_does_not() -> None:
    code = "a = deque(input())\nprint(''.join(a))"
    for mode, outcome in (("lcb", "correct"), ("strict", "wrong")):
        with Judge(1, mode=mode) as judge:
            assert judge.verify(ECHO, program(code)).outcome == outcome


def test_lcb_mode_keeps_state_and_tells_inner_tuples_from_lists() -> None:
    tests = tuple(Test("functional", "[1]", out) for out in ("[[1, 2]]", "[[1, 2]]"))
    problem = Problem("t", "code", "", tests=tests, function="f")
    inner, outer = "def f(x): return [(1, 2)]", "def f(x): return ([1, 2],)"
    once = "n = 0\ndef f(x):\n  global n\n  n += 1\n  return [[n, n + 1]]"
    for mode, expected in (
        ("lcb", ("wrong", "correct", "wrong")),
        ("strict", ("correct", "correct", "correct")),
    ):
        with Judge(1, mode=mode) as judge:
            found = tuple(judge.verify(problem, program(c)).outcome for c in (inner, outer, once))
            assert found == expected, mode


# --- HTTP


@pytest.fixture(scope="module")
def server(judge: Judge) -> Iterator[str]:
    with Server(judge, token="secret") as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/verify"
        running.shutdown()
        thread.join()


def test_judging_over_http(server: str) -> None:
    with RemoteJudge(server, token="secret") as remote:
        assert remote.verify(HALF, box("0.5")).outcome == "correct"
        assert remote.submit(SUM, program("def add(a, b): return 0")).result().outcome == "wrong"
    with RemoteJudge(server, token="guess", retries=1) as remote:
        verdict = remote.verify(HALF, box("0.5"))
        assert (verdict.outcome, "401" in verdict.detail) == ("unjudged", True)
    with RemoteJudge("http://127.0.0.1:9/verify", retries=1) as remote:
        assert remote.verify(HALF, box("0.5")).outcome == "unjudged"


def post(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    headers = {"Authorization": "Bearer secret", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_http_batches_and_refusals(server: str) -> None:
    item = {"problem": {"id": "p", "domain": "math", "question": "", "answer": "3"},
            "response": "</think>\\boxed{3}"}  # fmt: skip
    status, verdicts = post(server, json.dumps([item, item]).encode())
    assert (status, [v["reward"] for v in verdicts]) == (200, [1, 1])
    assert post(server, json.dumps(item).encode())[1]["outcome"] == "correct"
    assert post(server, b"{")[0] == 400
    assert post(server, b"", **{"Content-Length": str(1 << 40)})[0] == 413
    assert post(server.replace("verify", "other"), b"{}")[0] == 404
    with urllib.request.urlopen(server.replace("verify", "health"), timeout=60) as reply:
        assert json.load(reply)["mode"] == "strict"


def test_the_open_network_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="token"):
        serve(host="0.0.0.0")


# --- soak


@pytest.mark.slow
def test_soak_grows_nothing() -> None:
    """Hundreds of jobs, half of them hostile: no descriptor, process or memory is left behind."""
    hostile = (
        "import os; os._exit(1)", "import os; os.abort()", "raise SystemExit(1)", "x = bytearray(1 << 40)",
        "import os; os.fork()", "import ctypes; ctypes.string_at(0)", "print('x' * (1 << 22))",
    )  # fmt: skip

    def resident(zygote: Zygote) -> int:
        return int(Path(f"/proc/{zygote._process.pid}/statm").read_text().split()[1])

    examiner = Examiner()
    try:
        sizes, descriptors = [], []
        for number in range(700):
            code = hostile[number // 2 % len(hostile)] if number % 2 else "print(input())"
            assert examiner.judge(ECHO, code).outcome == ("wrong" if number % 2 else "correct")
            if number % 100 == 99:
                sizes.append(resident(examiner.zygote()))
                descriptors.append(len(os.listdir("/proc/self/fd")))
        assert max(sizes) - sizes[0] < 256
        assert max(descriptors) <= descriptors[0] + 1
        assert examiner.lost == 0
    finally:
        examiner.close()
