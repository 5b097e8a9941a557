"""Exports: transformers opens the folder, the card's numbers are the run's, nothing is half written."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from acereason import card
from acereason import export as exporting
from acereason.errors import RunError
from acereason.evaluate.estimates import Z95
from acereason.export import export, gather
from acereason.files import file_hash
from acereason.policy import saved
from acereason.policy.policy import Policy
from acereason.problems import Problem


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp("export") / "run"
    script = Path(__file__).parents[1] / "support" / "tiny_run.py"
    shown = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=240
    )
    assert shown.returncode == 0, shown.stderr
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): file_hash(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def summary(run: Path) -> Any:
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("stage", ["sft", "math", "code"])
def test_transformers_opens_it_and_it_is_the_stages_model(run: Path, stage: str, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out", stage)
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(out)
    own = AutoModelForCausalLM.from_pretrained(run / "models" / stage)
    ids = tokenizer("Which is the largest of 3, 5", return_tensors="pt").input_ids
    assert not info["missing_keys"] and torch.equal(model(ids).logits, own(ids).logits)
    assert not list(tmp_path.glob(".*"))


def test_it_is_asked_as_it_was_trained_by_transformers_too(run: Path, tmp_path: Path) -> None:
    problem = Problem("p", "math", "Which is the largest of 3, 5 <|im_end|>?", answer="5")
    trained = Policy(None, AutoTokenizer.from_pretrained(run / "models" / "code"), "plain")
    old = tmp_path / "old"  # a run of the time before models said how they are asked
    shutil.copytree(run, old)
    for name in ("prompt.json", "chat_template.jinja"):
        (old / "models" / "code" / name).unlink()
    for folder in (run, old):
        out = export(folder, tmp_path / f"{folder.name}-out")
        tokenizer = AutoTokenizer.from_pretrained(out)
        turn = [{"role": "user", "content": problem.question}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
        assert ids == trained.prompt_ids(problem)
        assert saved.choose(out, tokenizer).name == "plain" and "`plain`" in (out / "README.md").read_text()


def test_the_cards_numbers_are_the_summarys(run: Path, tmp_path: Path) -> None:
    text = (export(run, tmp_path / "out") / "README.md").read_text()
    data = summary(run)
    last = data["stages"][-1]
    assert "after stage `code` of the recipe `tiny`" in text
    for domain, score in last["evaluation"].items():
        gain = data["gain"][domain]
        cells = (
            f"| {domain} | {score['n']} | {score['k']} | "
            f"{100 * score['accuracy']:.1f} ± {100 * Z95 * score['se']:.1f} | "
        )
        assert cells in text
        assert f"{100 * gain['mean']:+.1f} ({100 * gain['low']:.1f} to {100 * gain['high']:.1f})" in text
    for stage in data["stages"]:
        (line,) = (s for s in text.splitlines() if s.startswith(f"| {stage['name']} | {stage['domain']} | "))
        assert f" {stage['steps']} " in line and (stage["T"] is None or f"{stage['H_T']:.3f}" in line)
    assert json.loads((run / "manifest.json").read_text())["recipe_sha256"] in text
    for file in ("sft", "rl", "held_out", "traces"):
        path = run / "data" / f"{file}.jsonl"
        rows = len(path.read_bytes().splitlines())
        assert f"| `{file}.jsonl` | {rows:,} | `{file_hash(path)}` |" in text


def test_the_cards_metadata_are_what_the_hub_reads(run: Path, tmp_path: Path) -> None:
    text = (export(run, tmp_path / "my-model", licence="mit") / "README.md").read_text()
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    data = yaml.safe_load(found[1])
    assert data["license"] == "mit" and data["library_name"] == "transformers"
    results = data["model-index"][0]["results"]
    last = summary(run)["stages"][-1]["evaluation"]
    values = {r["dataset"]["type"]: r["metrics"][0]["value"] for r in results}
    assert values == {domain: score["accuracy"] for domain, score in last.items()}


def test_an_earlier_stage_shows_its_own_evaluation_and_no_gain(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out", "math")
    own = json.loads((out / "acereason" / "evaluations.json").read_text())
    assert [s["name"] for s in own["stages"]] == ["sft", "math"] and own["gain"] == {}
    assert own["stages"] == summary(run)["stages"][:2]


def test_an_unfinished_run_exports_what_is_finished(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "run"
    shutil.copytree(run, part)
    shutil.rmtree(part / "models" / "code")
    (part / "summary.json").unlink()
    assert gather(part).name == "math"
    with pytest.raises(RunError, match=r"finished: sft, math$"):
        export(part, tmp_path / "out", "code")


def test_an_unknown_stage_names_the_known_ones(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="its stages: sft, math, code"):
        export(run, tmp_path / "out", "mth")
    with pytest.raises(RunError, match="not a run's folder"):
        export(tmp_path, tmp_path / "out")


def test_a_folder_that_holds_something_is_refused_and_only_an_export_is_replaced(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(run, out, "sft")  # empty: allowed
    before = content(out)
    with pytest.raises(RunError, match="--force"):
        export(run, out, "code")
    assert content(out) == before
    export(run, out, "code", force=True)
    assert content(out)["model.safetensors"] == content(run / "models" / "code")["model.safetensors"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match="is not an export"):
        export(run, mine, force=True)
    with pytest.raises(RunError, match="own folder"):
        export(run, run / "models" / "out", force=True)
    assert (mine / "thesis.txt").read_text() == "years"


def test_a_failure_half_way_leaves_nothing_and_loses_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(run, tmp_path / "out", "sft")
    before = content(out)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "card", full)
    for target in (out, tmp_path / "new"):
        with pytest.raises(RunError, match="full"):
            export(run, target, "code", force=True)
    assert content(out) == before and sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_the_command_line_that_made_the_run_is_not_given_away(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out")
    assert "command" in json.loads((run / "manifest.json").read_text())
    assert "command" not in json.loads((out / "acereason" / "manifest.json").read_text())
    assert card._plain("a|b`<script>\n](x)") == "a·b··script····x·"


def test_the_code_under_use_runs(run: Path, tmp_path: Path) -> None:
    text = (export(run, tmp_path / "my 'model'") / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() and "Warning" not in shown.stderr
    assert "path = 'you/model'" in card.card(gather(run), "out", "you/model")


def test_reports_beside_the_data_are_not_data(run: Path, tmp_path: Path) -> None:
    """A run of the demo's size finds overlaps with its held-out questions."""
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (other / "data" / "contamination-code.jsonl").write_text('{"prompt": "p", "benchmark": "test"}\n')
    (other / "data" / "funnel.jsonl").write_text("no JSON at all\n")
    assert [d["file"] for d in gather(other).data] == [
        "held_out.jsonl",
        "rl.jsonl",
        "sft.jsonl",
        "traces.jsonl",
    ]


class Hub(BaseHTTPRequestHandler):
    """The hub's routes that an upload takes, keeping what arrives."""

    asked: list[tuple[str, Any]]
    files: dict[str, bytes]

    def log_message(self, *_: Any) -> None:
        return None

    def answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer({"id": "you/tiny", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
        )
        base = f"http://{self.headers['Host']}"
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    self.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            self.answer({"commitUrl": f"{base}/you/tiny/commit/{'1' * 40}", "commitOid": "1" * 40})
            return
        data = json.loads(body)
        self.asked.append((self.path, data))
        if "/preupload/" in self.path:
            wanted = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in data["files"]
            ]
            self.answer({"files": wanted})
        elif self.path == "/api/repos/create":
            self.answer({"url": f"{base}/you/tiny", "id": "you/tiny"})
        else:
            self.answer({"errors": [], "warnings": []})


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    kind = type("KeptHub", (Hub,), {"asked": [], "files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()


def acereason(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acereason.cli", "export", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_push_uploads_the_folder_privately_by_the_hubs_library(
    run: Path, tmp_path: Path, hub: tuple[str, type[Hub]]
) -> None:
    address, kept = hub
    out = tmp_path / "out"
    there = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
    shown = acereason(str(run), "--out", str(out), "--push", "you/tiny", **there)
    assert shown.returncode == 0, shown.stderr
    assert f"{address}/you/tiny" in shown.stdout
    created = dict(kept.asked)["/api/repos/create"]
    assert created["name"] == "tiny" and (created.get("private") or created.get("visibility") == "private")
    assert kept.files == {name: (out / name).read_bytes() for name in content(out)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set; unset it"),
        (
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
            "http://127.0.0.1:9 cannot be reached",
        ),
    ],
)
def test_a_push_that_fails_keeps_the_folder_and_says_so(
    run: Path, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    out = tmp_path / "out"
    shown = acereason(str(run), "--out", str(out), "--push", "you/tiny", **settings)
    words = " ".join(shown.stderr.split())
    assert shown.returncode == 2 and "could not be pushed to you/tiny" in words and said in words
    assert "Traceback" not in shown.stderr and (out / "README.md").exists()
