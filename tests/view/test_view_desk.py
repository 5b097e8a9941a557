"""The reward-hacking desk as its reader meets it: found, linked, judged again; and what none may ask."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from acereason.view.again import MOST
from acereason.view.server import application
from browser import Browser, executable
from hacked import Planted, make
from view_server import served

JSON = {"Content-Type": "application/json"}


# a desk on which another run is looked at (null: none is) while the judge answers (false: fails)
SWITCHED = """async (answers) => {
  const desk = Object.create(deskView), ask = source.judge, row = { file: "f", problem_id: "p", sample: 0 };
  const chosen = new Set([keyOf(row)]);
  Object.assign(desk, { of: "a", verdicts: new Map(), chosen, said: "", root: document.body });
  source.judge = async () => {
    if (answers !== null) Object.assign(desk, { of: "b", verdicts: new Map(), said: "" });
    if (answers === false) throw new Error("gone");
    const other = { file: "f", problem: "q", sample: 0, outcome: "wrong" };
    return { verdicts: [{ file: "f", problem: "p", sample: 0, outcome: "correct" }, other] };
  };
  await desk.judge("a", [row]).finally(() => (source.judge = ask));
  return [desk.busy, desk.verdicts.size, desk.said];
}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Planted, str]]:
    folder = tmp_path_factory.mktemp("runs")
    planted = make(folder / "hacked", hacked=True)
    make(folder / "well", hacked=False)
    with served(folder) as address:
        yield planted, address


def post(address: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and answer of a question to the judge."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=30)
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/api/judge", sent, {**JSON, **named})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert "default-src 'none'" in (answer.getheader("content-security-policy") or "")
    return answer.status, json.loads(text) if answer.getheader("content-type") == "application/json" else text


def asked(planted: Planted, rule: str) -> dict[str, Any]:
    rows = [{"file": f, "problem": p, "sample": s} for r, f, p, s in sorted(planted) if r == rule]
    return {"run": "hacked", "responses": rows[:MOST]}


def test_the_real_judge_says_what_was_not_right(runs: tuple[Planted, str]) -> None:
    planted, address = runs
    expected = {"spike": "wrong", "cut": "no_answer", "short": "correct", "copied": "correct"}
    for rule, outcome in expected.items():
        while (found := post(address, asked(planted, rule)))[1]["waiting"]:
            assert found[0] == 200
        rows = found[1]["verdicts"]
        assert {row["outcome"] for row in rows} == {outcome}, rule
        assert [(row["file"], row["problem"]) for row in rows] == [
            (row["file"], row["problem"]) for row in asked(planted, rule)["responses"]
        ]


def test_what_is_not_in_the_run_is_not_judged(runs: tuple[Planted, str]) -> None:
    which = [
        ("../hacked/responses/math-000104", "leak", 0),
        ("math-000104", "nothing", 0),
        ("math-000104", "leak", 99),
    ]
    rows = [dict(zip(("file", "problem", "sample"), one, strict=True)) for one in which]
    _, found = post(runs[1], {"run": "hacked", "responses": rows})
    assert {row["outcome"] for row in found["verdicts"]} == {"unjudged"}
    text = {"file": "math-000104", "problem": "leak", "sample": 0, "text": "</think>\\boxed{151}"}
    _, found = post(runs[1], {"run": "hacked", "responses": [text]})
    _, same = post(runs[1], {"run": "hacked", "responses": [{**text, "text": "other"}]})
    assert found["verdicts"][0]["extracted"] == same["verdicts"][0]["extracted"]


def test_only_this_page_may_have_judged(runs: tuple[Planted, str]) -> None:
    planted, address = runs
    good = asked(planted, "short")
    assert post(address, good, Origin=address.rstrip("/"), Sec_Fetch_Site="same-origin")[0] == 200
    assert post(address, good, Origin="http://evil.example")[0] == 403
    assert post(address, good, Sec_Fetch_Site="cross-site")[0] == 403
    assert post(address, good, Sec_Fetch_Site="same-site")[0] == 403
    assert post(address, good, Host="evil.example")[0] == 421
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert post(address, good, Content_Type=kind)[0] == 415
    assert post(address, b"{}", Content_Length=str(1 << 20))[0] == 413  # before a byte of it was read
    assert post(address, good, Transfer_Encoding="chunked")[0] in (400, 411)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"\xff", {"run": "hacked"}, {"run": "hacked", "responses": []},
     {"run": "hacked", "responses": [{"file": "f", "problem": "p", "sample": 0}] * (MOST + 1)},
     {"run": "hacked", "responses": [{"file": "f", "problem": "p", "sample": "0"}]}],
)  # fmt: skip
def test_a_question_that_is_none_is_refused(runs: tuple[Planted, str], body: Any) -> None:
    assert post(runs[1], body)[0] == 422
    assert (
        post(runs[1], {"run": "nowhere", "responses": [{"file": "f", "problem": "p", "sample": 0}]})[0] == 404
    )


def test_beyond_the_loopback_address_nothing_is_judged(tmp_path: Path) -> None:
    planted = make(tmp_path / "hacked", hacked=True)
    client = TestClient(application(tmp_path, "0.0.0.0"), base_url="http://127.0.0.1")
    assert client.get("/api/desk?run=hacked").json()["judge"] is False
    assert client.post("/api/judge", json=asked(planted, "short")).status_code == 404


@pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")
def test_the_queue_leads_to_the_answers_and_judges_them(runs: tuple[Planted, str], tmp_path: Path) -> None:
    said = "document.querySelector('.tools [role=status]').textContent"
    with Browser(tmp_path / "profile") as page:
        page.open(f"{runs[1]}#/run/hacked")
        page.until("document.querySelector('.finding a')")
        page.ask("document.querySelector('.finding a').click()")
        page.until(
            "document.querySelectorAll('.queue tbody tr').length === 14 && charts.get('desk-reward')?.plot"
        )
        names = page.ask("charts.get('desk-reward').live.series.map(s => s.name)")
        assert names[0].startswith("training reward") and "held-out" in names
        assert {"0", "several answers"} <= set(
            page.ask("[...document.querySelectorAll('.shares tr')].filter(r => r.innerText.includes('▲'))"
                     ".map(r => r.cells[2].innerText)")
        )  # fmt: skip
        page.ask("const s = document.querySelector('[name=rule]'); s.value = 'spike';"
                 "s.dispatchEvent(new Event('change', {bubbles: true}))")  # fmt: skip
        page.until("document.querySelectorAll('.queue tbody tr').length === 5")
        page.ask(
            "[...document.querySelectorAll('.tools button')].find(b => b.innerText === 'select all').click()"
        )
        page.ask("document.querySelector('.judge').click()")
        page.until(f"{said}.includes('5 judged again: 0 right as before, 5 not')")
        assert set(page.ask("[...document.querySelectorAll('.again .outcome')].map(o => o.textContent)")) == {
            "wrong"
        }
        page.ask("document.querySelector('.queue tbody a').click()")
        page.until("document.querySelector('.response.chosen')?.textContent.includes('none of them')")
        page.open(f"{runs[1]}#/run/well/desk")
        page.until("document.body.innerText.includes('Nothing is suspicious')")
        assert page.ask(f"({SWITCHED})(true)") == [False, 0, ""]
        assert page.ask(f"({SWITCHED})(false)") == [False, 0, ""]
        assert page.ask(f"({SWITCHED})(null)") == [False, 2, "1 judged again: 1 right as before, 0 not"]
        assert page.console == []
