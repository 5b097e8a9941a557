"""The door: outcomes, limits, sharing, threads, files, HTTP, other frameworks' calls, a third
domain."""

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

from acereason.errors import ConfigError, DataError, SandboxUnavailable
from acereason.problems import Problem, Response, Test, Verdict
from acereason.published.responses import Unread
from acereason.verify import Judge, adapters, domains, verify
from acereason.verify.code import Examiner, printable, same_output, same_result
from acereason.verify.files import verify_file
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


# --- a third domain


def _judge_sorted(problem: Problem, answer: str, tools: domains.Tools) -> Verdict:
    if answer == "crash":
        raise ValueError("a bug in the domain")
    return Verdict("correct", 1) if answer.split() == sorted(answer.split()) else Verdict("wrong", 0)


SORTED = domains.Domain("sorted", lambda p: p.question, lambda t: t.strip() or None, _judge_sorted)


def test_a_domain_of_ones_own() -> None:
    domains.register(SORTED)
    problem = Problem("p", "sorted", "Say words in order.")
    with Judge(1) as judge:
        for text, outcome in (("a b c", "correct"), ("b a", "wrong"), ("crash", "unjudged")):
            assert judge.verify(problem, Response("p", 0, "</think>" + text)).outcome == outcome


def test_a_domain_by_dotted_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_domain.py").write_text(
        "from acereason.problems import Verdict\nfrom acereason.verify.domains import Domain\n"
        "SHORT = Domain('short', lambda p: p.question, str.strip,\n"
        "    lambda p, a, t: Verdict('correct', 1) if len(a) < 5 else Verdict('wrong', 0))\nOTHER = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Judge(1) as judge:
        problem = Problem("p", "my_domain:SHORT", "")
        assert judge.verify(problem, Response("p", 0, "</think> yes")).outcome == "correct"
    with pytest.raises(ConfigError, match="found a int"):
        domains.domain("my_domain:OTHER")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        domains.domain("my_domain:MISSING")


DOCUMENT = Path(__file__).parents[2] / "docs" / "add-a-domain.md"


def test_the_documented_domain_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "my_domains.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["pear", "fig", "apple"]
    problem = Problem("s1", "my_domains:SORTING", " ".join(words), meta={"words": words})
    with Judge(1) as judge:
        for text, outcome in (
            ("</think>Answer: apple fig pear", "correct"),
            ("</think>Answer: fig apple pear", "wrong"),
            ("</think>apple fig pear", "no_answer"),
        ):
            assert judge.verify(problem, Response("s1", 0, text)).outcome == outcome
    assert "alphabetical" in domains.domain("my_domains:SORTING").instruction(problem)


# --- files


def rows() -> list[dict[str, Any]]:
    good = "</think>```python\ndef add(a, b): return a + b\n```"
    tests = [{"type": "functional", "input": "[1, 2]", "output": "3"}]
    return [
        {"id": "a", "domain": "math", "answer": "2", "response": "</think>\\boxed{2}", "extra": 1},
        {"id": "b", "domain": "code", "tests": tests, "function": "add", "response": good},
        {"id": "c", "domain": "math", "answer": "2", "response": "\\boxed{2}"},
        {"id": "d", "domain": "math", "answer": "2", "response": "</think>\\boxed{2}", "finish": "length"},
    ]


def test_a_file_is_judged_row_by_row(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in rows()) + "\n\n")
    counts = verify_file(source, target, workers=1)
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["reward"] for row in found] == [1, 1, 0, 0]
    assert set(found[0]) == {"id", "outcome", "reward", "extracted", "detail", "seconds"}
    assert counts == {"correct": 2, "no_answer": 2}


def test_a_row_without_a_response_keeps_its_place(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    first, last = rows()[0], rows()[1]
    source.write_text(f'{json.dumps(first)}\n{{"id": "x"}}\n\n[]\n{json.dumps(last)}')
    aside: list[Unread] = []
    counts = verify_file(source, target, set_aside=aside.append)
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(v["id"], v["outcome"]) for v in found[1:3]] == [("", "unjudged")] * 2
    assert [u.place for u in aside] == ["line 2", "line 4"] and counts["unread"] == 2
    assert [v["reward"] for v in found] == [1, None, None, 1]


def test_a_file_without_responses_leaves_no_output(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": "x"}\n')
    with pytest.raises(DataError, match="found none; line 1: "):
        verify_file(source, target)
    assert os.listdir(tmp_path) == ["in.jsonl"]
    with pytest.raises(DataError, match="cannot read"):
        verify_file(tmp_path / "none", target)


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


# --- other frameworks


def test_trl_rewards(judge: Judge) -> None:
    reward = adapters.trl_reward(judge)
    texts = ["t</think>\\boxed{4}", [{"role": "assistant", "content": "t</think>\\boxed{5}"}], "\\boxed{4}"]
    assert reward(["q"] * 3, texts, answer=["4"] * 3) == [1.0, 0.0, 0.0]
    relaxed = adapters.trl_reward(judge, thinking=False)
    assert relaxed(["q"], ["\\boxed{4}"], answer=["4"]) == [1.0]
    assert reward(["q"], ["t</think>\\boxed{4}"], answer=[None]) == [None]
    tests = json.dumps([{"type": "functional", "input": "[1]", "output": "2"}])
    code = "t</think>\n```python\ndef f(x): return x + 1\n```"
    assert reward(["q"], [code], tests=[tests], function=["f"]) == [1.0]


def test_verl_scores() -> None:
    assert adapters.compute_score("aime", "t</think>\\boxed{4}", "4") == 1.0
    assert adapters.compute_score("aime", "\\boxed{4}", "4", {"thinking": False}) == 1.0
    truth = {"inputs": ["1\n2"], "outputs": ["3"], "fn_name": "add"}
    code = "t</think>\n```python\nclass Solution:\n  def add(self, a, b): return a + b\n```"
    assert adapters.compute_score("lcb", code, json.dumps(truth)) == 1.0
    echo = "t</think>\n```python\nprint(input())\n```"
    assert adapters.compute_score("lcb", echo, {"inputs": ["a\n"], "outputs": ["b\n"]}) == 0.0
    with pytest.raises(DataError):
        adapters.compute_score("lcb", code, {"inputs": [], "outputs": []})
    with pytest.raises(DataError):
        adapters.compute_score("lcb", code, {"inputs": ["1"], "outputs": ["not json"], "fn_name": "f"})


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
