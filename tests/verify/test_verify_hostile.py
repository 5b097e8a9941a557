"""Whatever a child says: its own program is judged, no other, within its time, and never by our mistake."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.errors import DataError
from acereason.files import read_jsonl
from acereason.problems import Problem, Response, Test
from acereason.verify import Judge
from acereason.verify.code import Examiner
from acereason.verify.marking import Marking
from acereason.verify.sandbox.client import Answers, Child, Exit, Limits, Lost, Time, Zygote, job_bytes
from acereason.verify.sandbox.frames import FRAME
from acereason.verify.watch import Watch

TESTS = (Test("stdin", "1 2\n", "3\n"), Test("stdin", "5 6\n", "11\n"))
SUM = Problem("sum", "code", "", tests=TESTS, time_limit=0.4, memory_limit=128)
RIGHT = "a, b = map(int, input().split())\nprint(a + b)"
EXTREMES = [-(1 << 63), -1, 0, 1, 2, 3, 256, 16 << 20, (16 << 20) + 1, 20 << 30, 1 << 62, (1 << 63) - 1]


def program(code: str) -> Response:
    return Response("p", 0, f"</think>\n```python\n{code}\n```")


@pytest.fixture(scope="module", params=[True, False], ids=["namespaces", "bare"])
def examiner(request: pytest.FixtureRequest) -> Iterator[Examiner]:
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(90)]  # the zygote's end gets a high number
    made = Examiner(request.param)
    made.zygote()
    for descriptor in spare:
        os.close(descriptor)
    yield made
    made.close()


@pytest.fixture
def files() -> Iterator[tuple[int, int]]:
    made = os.memfd_create("output"), os.memfd_create("frames")
    yield made
    for descriptor in made:
        os.close(descriptor)


NUMBERS = st.sampled_from(EXTREMES) | st.integers(-(1 << 63), (1 << 63) - 1)
FRAMES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=300)), max_size=4)


@settings(max_examples=300)
@given(FRAMES, st.binary(max_size=40), st.binary(max_size=700), st.booleans())
def test_no_frame_raises_or_passes_what_is_not_there(
    frames: list[tuple[int, int, int, bytes]], output: bytes, noise: bytes, lenient: bool
) -> None:
    output_file, frames_file = os.memfd_create("output"), os.memfd_create("frames")
    try:
        os.write(output_file, output)
        os.write(frames_file, b"".join(FRAME.pack(*frame) for frame in frames) + noise)
        marking = Marking(TESTS, Limits(cpu=1.0), lenient)
        answers = Answers(output_file, frames_file, 16 << 20)
        marking.mark(answers)
        marking.finish(answers, Exit("", 0, 0.1, 0.1, 0.0))
        assert marking.passed == 0 or b"3" in output
        assert marking.passed == 2 or marking.failure is not None
        assert marking.failure is None or marking.failure.detail.isprintable()
    finally:
        os.close(output_file)
        os.close(frames_file)


def test_an_answer_is_read_once(files: tuple[int, int]) -> None:
    """What is written over it afterwards changes nothing; nor does taking the file away."""
    answers, marking = Answers(*files, 16 << 20), Marking(TESTS, Limits())
    os.write(files[0], b"3\n")
    os.write(files[1], FRAME.pack(0, 2, 0, b""))
    assert not marking.mark(answers) and marking.passed == 1
    os.ftruncate(files[0], 0)
    os.pwrite(files[1], FRAME.pack(0, 0, 0, b"wrong"), 0)
    assert not marking.mark(answers) and marking.passed == 1
    os.pwrite(files[1], FRAME.pack(0, 2, 0, b""), FRAME.size)  # the same bytes for the next test
    assert marking.mark(answers)


def test_spoiled_files_do_not_reach_the_next_program(examiner: Examiner) -> None:
    """Frames, reports, cut files and early ends of all kinds; after each a right and a wrong program."""
    draws = random.Random(7)
    ends = ["os._exit(0)", "os._exit(71)", "os.abort()", "time.sleep(0.05)", "os.close(5)"]
    for number in range(25):
        code = (
            "import os, struct, time\n"
            f"F, N = struct.Struct('<qqq232s'), {[draws.choice(EXTREMES) for _ in range(9)]}\n"
            "for fd in range(3, 200):\n  for i in range(3):\n    try:\n"
            "      os.pwrite(fd, F.pack(*N[3 * i:3 * i + 3], b''), i * F.size)\n"
            '      os.write(fd, b\'{"job":%d,"status":0,"killed":"","cpu":0,"wall":0,"waited":0}\' % i)\n'
            "    except OSError: pass\n"
            f"{draws.choice(ends)}"
        )
        assert examiner.judge(SUM, code).outcome == "wrong"
        assert examiner.judge(SUM, f"{RIGHT}  # {number}").outcome == "correct"
        assert examiner.judge(SUM, f"{RIGHT.replace('+', '-')}  # {number}").outcome == "wrong"
    assert examiner.lost == 0


def test_a_child_has_its_own_descriptors_only(examiner: Examiner) -> None:
    look = (
        "import os\nheld = []\nfor fd in range(5000):\n  try: held.append((fd, os.fstat(fd).st_mode >> 12))\n"
        "  except OSError: pass\nprint(held)"
    )
    run = examiner.zygote().run(job_bytes(look, ["x"], None), 1, Limits())
    held = dict(json.loads(run.output.decode().replace("(", "[").replace(")", "]")))
    assert set(held) == {0, 1, 2, 4, 5, 6}
    assert 0o14 not in held.values(), "a socket"


def test_a_report_from_another_process_or_job_is_none() -> None:
    zygote = Zygote.__new__(Zygote)
    zygote._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zygote._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    zygote._watch_channel()
    report = {"job": 7, "wall": 0.0, "cpu": 0.0, "waited": 0.0, "status": 0}
    with theirs, zygote._channel:
        for inside, job, taken in (
            (os.getpid() + 1, 7, False),
            (os.getpid(), 6, False),
            (os.getpid(), 7, True),
        ):
            zygote._inside = inside
            child = Child(zygote, 7, Answers(-1, -1, 0), 1.0)
            theirs.send(json.dumps(report | {"job": job}).encode())
            assert child.ended(1.0) is taken


def test_our_own_failure_to_confine_is_no_verdict(examiner: Examiner) -> None:
    for memory in (-(1 << 30), 1 << 60):
        with pytest.raises(Lost, match="confined"):
            Zygote().run(job_bytes("print(1)", ["x"], None), 1, Limits(memory=memory))
    for status in (70, 71):
        verdict = examiner.judge(SUM, f"import os\nos._exit({status})")
        assert verdict.outcome == "wrong", "a program that pretends to be one"


@pytest.mark.parametrize(
    ("name", "value"),
    [("time_limit", -1.0), ("time_limit", 2.0**60), ("time_limit", 1e-9), ("time_limit", float("nan")),
     ("memory_limit", -5), ("memory_limit", 1 << 60)],
)  # fmt: skip
def test_absurd_limits_are_told(name: str, value: float, examiner: Examiner, tmp_path: Path) -> None:
    problem = Problem("p", "code", "", tests=TESTS, **{name: value})  # type: ignore[arg-type]
    verdict = examiner.judge(problem, RIGHT)
    assert (verdict.outcome, name in verdict.detail) == ("unjudged", True)
    if value < 0 or value > 1e9:
        row = {"id": "p", "domain": "code", "question": "", name: value}
        (tmp_path / "p.jsonl").write_text(json.dumps(row))
        with pytest.raises(DataError, match=name):
            list(read_jsonl(tmp_path / "p.jsonl", Problem))


STAYS = {
    "claims progress": "import os, time\ni = 1\nwhile True:\n  for fd in range(3, 9):\n    try: "
    "os.pwrite(fd, bytes(256), i * 256)\n    except OSError: pass\n  i += 1\n  time.sleep(0.05)",
    "wakes often": "import signal, time\nsignal.signal(signal.SIGALRM, lambda *_: sum(range(500)))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\nwhile True: time.sleep(1)",
    "works a little": "import time\nwhile True:\n  sum(range(20000))\n  time.sleep(0.02)",
    "sleeps": "import time\ntime.sleep(1000)",
}


@pytest.mark.parametrize("kind", STAYS)
def test_a_program_that_stays_ends_at_its_wall_limit(kind: str, examiner: Examiner) -> None:
    began = time.monotonic()
    verdict = examiner.judge(SUM, STAYS[kind])
    assert verdict.outcome in ("timeout", "wrong"), verdict
    wall = 2 * (2 * 0.4 + 2.2)  # all children of a program together, as the documentation says
    assert time.monotonic() - began < 5 * wall, "not even a busy machine makes it longer"


TIMES = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3)), max_size=60)


@given(TIMES)
def test_the_watch_keeps_its_bounds(steps: list[tuple[float, float, float, int]]) -> None:
    """However a child spends its time: never longer than the total, nor in one test than its limits."""
    limits, total = Limits(cpu=2.0, wall=7.0), 13.0
    watch, now, test, began = Watch(limits, total), Time(), 0, Time()
    for wall, busy, waiting, forward in steps:
        share = max(1.0, busy + waiting)
        now = Time(now.wall + wall, now.cpu + wall * busy / share, now.waited + wall * waiting / share)
        if forward == 3:
            test, began = test + 1, now
        reason = watch.overrun(test, now)
        cpu, awake = now.cpu - began.cpu, now.awake - began.awake
        assert bool(reason) is (cpu >= 2.0 or awake >= 7.0 or now.awake >= total)
        assert 0 < watch.pause() <= 0.25
        if reason:
            break


GUESSES = {
    "once": "print(guess)",
    "and leaves": "print(guess, flush=True); os._exit(0)",
    "or dies": "print(guess, flush=True)\nif os.urandom(1)[0] & 1: os.abort()",
    "by turns": "math.turn = getattr(math, 'turn', 0) + 1\nprint(guess)",
}


@pytest.mark.parametrize("kind", GUESSES)
def test_guessing_gets_one_try(kind: str) -> None:
    tests = tuple(Test("stdin", f"{i}\n", "YES\n" if i * 7919 % 13 < 6 else "NO\n") for i in range(8))
    problem = Problem("yn", "code", "", tests=tests, time_limit=2.0, memory_limit=256)
    code = "import math, os\ninput()\nguess = 'YES' if os.urandom(1)[0] & 1 else 'NO'\n" + GUESSES[kind]
    with Judge(2) as judge:
        futures = [judge.submit(problem, program(f"{code}\n# {i}")) for i in range(600)]
        outcomes = Counter(future.result().outcome for future in futures)
    assert outcomes["correct"] <= 12, outcomes  # 600 / 2^8 = 2.3 by one try
    assert outcomes["unjudged"] == 0


@pytest.mark.parametrize("namespaces", [True, False])
def test_threads_of_one_program_are_not_missing_to_another(namespaces: bool) -> None:
    hold = (
        "import threading, time\nthreading.stack_size(65536)\nn = 0\ntry:\n  for i in range(2000):\n"
        "    threading.Thread(target=time.sleep, args=(2,), daemon=True).start(); n += 1\n"
        "except RuntimeError: pass\ntime.sleep(1.5)\nraise RuntimeError(f'{n} threads')"
    )
    many = (
        "import threading\na, b = map(int, input().split())\nout = []\n"
        "threads = [threading.Thread(target=lambda: out.append(a + b)) for _ in range(40)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\nassert len(out) == 40\nprint(out[0])"
    )
    problem = Problem("p", "code", "", tests=TESTS, time_limit=4.0, memory_limit=512)
    with Judge(3, namespaces=namespaces) as judge:
        for i in range(12):
            judge.verify(problem, program(f"{RIGHT} # {i}"))
        holders = [judge.submit(problem, program(f"{hold} # {i}")) for i in range(2)]
        time.sleep(0.5)
        honest = [judge.verify(problem, program(f"{many} # {i}")).outcome for i in range(4)]
        assert honest == ["correct"] * 4
        for holder in holders:
            assert holder.result().outcome == "wrong" and "threads" in holder.result().detail


def test_state_between_tests_is_mended_and_no_more(examiner: Examiner) -> None:
    carried = "import math\nmath.n = getattr(math, 'n', 0) + 1\n" + RIGHT.replace("a + b", "(a + b) * {}")
    assert examiner.judge(SUM, carried.format("(1 if math.n == 1 else 0)")).outcome == "correct"
    assert examiner.judge(SUM, carried.format("(1 if a == 1 else 0)")).outcome == "wrong"


def test_frames_have_the_size_that_both_sides_think() -> None:
    assert FRAME.size == 256 and FRAME.size == struct.calcsize(FRAME.format)
