"""Two hosts of two ranks and a server each: the network is cut, a server, a rank and a host are lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import config, prepare, runs
from acereason.curate import tasks
from hosts import ADDRESS, PORT, Hosts, possible, two_hosts
from ranked import asked, rl_rows

pytest.importorskip("httpx2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not possible(), reason="network namespaces need root and iproute2"),
]
STEPS, PATIENT = 8, 1200.0


def base(folder: Path) -> Path:
    """A model of random weights that the servers hold and the run begins with."""
    recipe = config.parse(tiny_run.RECIPE)
    data, _ = tasks.make(recipe.curate, recipe.of_data, folder)
    prepare.policy_of(recipe, data).save(folder / "base")
    return folder / "base"


def written(folder: Path, model: Path, servers: str) -> Path:
    """The recipe with these hosts' servers."""
    stage = {
        "name": "math", "domain": "math", "budget": 16, "steps": STEPS, "group": 2, "prompts": 4,
        "learning_rate": 1e-3, "overlong": "zero",
    }  # fmt: skip
    urls = [f"http://{ADDRESS[host]}:{PORT}" for host in servers]
    how = {"urls": urls, "folder": str(folder / "published"), "canary": 1e-3, "deadline": 120.0}
    changes: dict[str, Any] = {
        "model": {"path": str(model), "format": "plain"}, "sft": None, "stage": [stage],
        "checkpoint_every": 1, "rl": {"judges": 1, "false_positives": 0.5},
        "evaluation": {"k": 1, "budget": 8, "start": False},
        "sampling": {"servers": how, "threads": 1},
    }  # fmt: skip
    recipe = {k: v for k, v in (tiny_run.RECIPE | changes).items() if v is not None}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder / "recipe.json"


def until(run: Path, rows: int, hosts: Hosts) -> None:
    """Wait until so many steps are written, with every rank alive."""
    end = time.monotonic() + PATIENT
    while len(rl_rows(run)) < rows:
        assert time.monotonic() < end, "the run stands still"
        assert all(p.poll() is None for p in hosts.of("rank")), "a rank ended"
        time.sleep(0.5)


def test_what_is_lost_costs_no_step_and_doubles_none(tmp_path: Path) -> None:
    run, model = tmp_path / "run", base(tmp_path)
    with two_hosts(tmp_path) as hosts:
        for host in "ab":
            hosts.server(host, model)
        hosts.ranks("ab", run, written(tmp_path, model, "ab"), 29500)
        until(run, 1, hosts)
        hosts.link("down")  # the network is cut for a minute, and the run goes on
        time.sleep(60)
        hosts.link("up")
        done = len(rl_rows(run))
        until(run, done + 1, hosts)
        hosts.kill("server", "b")  # a server is lost, and the run goes on
        done = len(rl_rows(run))
        until(run, done + 1, hosts)
        hosts.kill("rank", "b", 3)  # a rank is lost: all end, none with success
        assert 0 not in hosts.ended(400)
        first = len(rl_rows(run))
        assert 3 <= first < STEPS
        hosts.server("b", model)
        hosts.ranks("ab", run, written(tmp_path, model, "ab"), 29501)
        until(run, first + 1, hosts)
        hosts.link("down")  # a host is lost, and says nothing any more
        hosts.kill("server", "b")
        hosts.kill("rank", "b")
        assert 0 not in hosts.ended(600)
        hosts.ranks("a", run, written(tmp_path, model, "a"), 29502)
        assert hosts.ended(PATIENT) == [0, 0]
    assert [row["step"] for row in rl_rows(run)] == list(range(1, STEPS + 1))
    for step in asked(run).values():
        assert len(step) == len(set(step)) == 8, "a response is missing or doubled"
    prompts = [tuple(dict.fromkeys(p for p, _ in step)) for step in asked(run).values()]
    assert all(len(each) == 4 for each in prompts)
    assert [r["kind"] for r in runs.read_metrics(run)].count("end") == 1
