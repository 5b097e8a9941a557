"""The server as a stranger meets it: only reading, only by its own address, and nothing but the runs."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from acereason.view.server import LOOPBACK, Guard, application
from view_run import HOSTILE, make_run
from view_server import served

NOTHING: Any = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "demo-run")
    (folder.parent / "secret.txt").write_text("secret")
    with served(folder) as address:
        yield folder, address


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a request whose path is sent as it is."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def test_the_page_allows_its_own_scripts_and_nothing_else(runs: tuple[Path, str]) -> None:
    status, headers, body = ask(runs[1], "/")
    policy = headers["content-security-policy"]
    assert status == 200 and b"<script" in body
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert b"http:" not in body and b"https:" not in body and b"//" not in body.replace(b"://", b"")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8755", "127.0.0.1.evil.example", "", "localhost.evil"]
)
def test_a_foreign_name_is_refused(runs: tuple[Path, str], host: str) -> None:
    status, _, body = ask(runs[1], "/api/runs", Host=host)
    assert status in (400, 421) and b"demo-run" not in body


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8755", "192.168.1.7:8755"]
)
def test_addresses_and_localhost_are_fine(runs: tuple[Path, str], host: str) -> None:
    assert ask(runs[1], "/api/runs", Host=host)[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_requests_are_refused(runs: tuple[Path, str], site: str) -> None:
    assert ask(runs[1], "/api/runs", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
    assert ask(runs[1], "/api/runs", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 403
    assert ask(runs[1], "/api/runs", Origin="https://evil.example")[0] == 403
    assert ask(runs[1], "/api/runs", Origin="null")[0] == 403
    framed = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
    assert ask(runs[1], "/", **framed)[0] == 403
    assert (
        ask(runs[1], "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")[0] == 200
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_known(runs: tuple[Path, str], method: str) -> None:
    assert ask(runs[1], "/api/runs", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/demo-run/recipe.json",
        "/vendor/../page.css",
        "//etc/passwd",
        "/api/run?run=../secret.txt",
        "/api/run?run=demo-run/..",
        "/api/run?run=/etc",
        "/api/run?run=.",
        "/api/run?run=%00",
        "/api/group?run=demo-run&file=../../secret&problem=x",
        "/api/group?run=demo-run&file=..%2f..%2fsecret.txt&problem=x",
        "/api/text?run=demo-run&file=/etc/passwd&problem=x&sample=0",
        "/api/lab?run=demo-run&run=../demo-run",
    ],
)
def test_no_path_leads_out_of_the_runs(runs: tuple[Path, str], path: str) -> None:
    status, _, body = ask(runs[1], path)
    assert status == 404 and b"secret" not in body.replace(b"secret.txt", b"")


def test_a_stages_name_that_is_a_path_reads_no_other_file(runs: tuple[Path, str], tmp_path: Path) -> None:
    first = make_run(tmp_path / "one")
    summary = json.loads((first / "summary.json").read_text())
    summary["stages"][0]["name"] = "../../secret"
    (first / "summary.json").write_text(json.dumps(summary))
    shutil.copytree(first, tmp_path / "two")
    verdicts = {"math": {"ids": ["q"], "right": [[True]]}}
    (tmp_path / "secret.json").write_text(json.dumps(verdicts))
    with served(tmp_path) as address:
        body = json.loads(ask(address, "/api/lab?run=one&run=two")[2])
    assert body["comparisons"] and not any(row["difference"]["paired"] for row in body["comparisons"])


def test_answers_are_json_whatever_was_written(runs: tuple[Path, str]) -> None:
    status, headers, body = ask(runs[1], "/api/responses?run=demo-run&stage=code&limit=3")
    found = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert found["matching"] == 96 and len(found["rows"]) == 3 and found["more"]
    row = found["rows"][1]
    where = f"file={row['file']}&problem={quote(row['problem_id'], safe='')}"
    group = json.loads(ask(runs[1], f"/api/group?run=demo-run&{where}")[2])
    assert [one["sample"] for one in group["responses"]] == list(range(8))
    assert HOSTILE in group["responses"][1]["thinking"]
    text = json.loads(ask(runs[1], f"/api/text?run=demo-run&{where}&sample=1")[2])
    assert text["thinking"] == group["responses"][1]["thinking"]


def test_nothing_is_sent_again_until_something_is_new(runs: tuple[Path, str]) -> None:
    first = json.loads(ask(runs[1], "/api/run?run=demo-run")[2])
    again = json.loads(ask(runs[1], f"/api/run?run=demo-run&version={first['version']}")[2])
    assert again == {"same": True, "state": "finished"}
    with (runs[0] / "demo-run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "end", "step": 270}\n')
    assert "rl" in json.loads(ask(runs[1], f"/api/run?run=demo-run&version={first['version']}")[2])


@pytest.mark.parametrize(
    "query", ["step=x", "step=-1", "step=9" * 30, "start=1e9", "truncated=maybe", "limit=0"]
)
def test_odd_parameters_do_no_harm(runs: tuple[Path, str], query: str) -> None:
    assert ask(runs[1], f"/api/responses?run=demo-run&{query}")[0] == 200


def test_it_listens_on_the_loopback_address_unless_told_otherwise(runs: tuple[Path, str]) -> None:
    assert urlsplit(runs[1]).hostname == LOOPBACK
    port = urlsplit(runs[1]).port
    own = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in own if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_name_that_was_given_is_its_own(tmp_path: Path) -> None:
    guard = application(tmp_path, "runs.example")
    assert isinstance(guard, Guard)
    assert guard._known("runs.example:80") and guard._known("RUNS.example") and not guard._known("example")


def test_a_folder_that_is_none_and_a_port_in_use_are_errors(runs: tuple[Path, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "acereason.cli", "view"]
    done = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True)
    assert done.returncode == 2 and "expected a folder of runs" in done.stderr
    port = str(urlsplit(runs[1]).port)
    (tmp_path / "metrics.jsonl").touch()
    done = subprocess.run([*command, str(tmp_path), "--port", port], capture_output=True, text=True)
    assert done.returncode == 2 and "Address already in use" in done.stderr


def test_a_full_disk_is_said_and_the_page_lives_on(tmp_path: Path) -> None:
    """On a real full disk: a small tmpfs of our own, where the machine lets us mount one."""
    make_run(tmp_path / "run")
    script = (
        f"mount -t tmpfs -o size=2m none {tmp_path}/disk && cp -r {tmp_path}/run {tmp_path}/disk/run && "
        f"cd {tmp_path}/disk && dd if=/dev/zero of=filler bs=64k status=none; "
        f"exec {sys.executable} -c '{FULL}' ."
    )
    (tmp_path / "disk").mkdir()
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system of our own here: {done.stderr.strip()[:80]}")
    assert done.returncode == 0, done.stderr
    notes, steps, report = json.loads(done.stdout)
    assert "0 MiB left" in notes[-1] and steps == 150
    assert "the disk that holds" in report and "is full" in report


FULL = """
import json, sys
from pathlib import Path
from acereason.errors import RunError
from acereason.runs import disk_errors
from acereason.view.report import write_report
from acereason.view.runs_folder import RunsFolder
run = RunsFolder(Path(sys.argv[1])).get("run")
run.reader.advance()
page = run.reader.page()
try:
    with disk_errors(run.folder):
        write_report(run.folder)
    said = ""
except RunError as error:
    said = str(error)
print(json.dumps([page["notes"], len(page["rl"]["step"]), said]))
"""


def test_without_its_library_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')")
    command = [sys.executable, "-m", "acereason.cli", "view", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "pip install 'acereason[view]'" in done.stderr


PIPED = ("metrics.jsonl", "events.jsonl", "timings.jsonl", "recipe.json", "summary.json", "problems.jsonl")


def test_pipes_in_place_of_files_hold_nothing_up_and_it_ends_when_told(tmp_path: Path) -> None:
    """A reader of a pipe would wait for ever, and a server with such a reader would not end."""
    for name in ("metrics.jsonl", "recipe.json"):  # one of them makes a folder a run
        run = make_run(tmp_path / "runs" / f"without-{name}")
        kept = {"metrics.jsonl": "recipe.json", "recipe.json": "metrics.jsonl"}[name]
        for path in [*run.rglob("*"), *(run / piped for piped in PIPED)]:
            if path.name != kept and not path.is_dir():
                path.unlink(missing_ok=True)
                os.mkfifo(path)
    started = time.monotonic()
    with served(tmp_path / "runs") as address:
        status, _, body = ask(address, "/api/runs")
        assert status == 200
        for row in json.loads(body)["runs"]:
            for route in ("run", "responses", "group", "text"):
                asked = f"/api/{route}?run={row['name']}&file=rl-00001.jsonl&problem=p&sample=0&text=a"
                assert ask(address, asked)[0] in (200, 404)
    assert time.monotonic() - started < 60
