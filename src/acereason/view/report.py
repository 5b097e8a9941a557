"""`report.html`: a run as one file that opens anywhere, from a disk, without a network.

Style, charts and data stand inside the file. Responses are written by a model and may hold
anything, so they are made inert twice: in the embedded JSON every `<`, `>`, `&` is a `\\u` escape
and the page shows text as text nodes only; and a Content-Security-Policy allows just the one script
whose hash it names, and no request at all. Charts are drawn by uPlot (MIT), kept in `vendor/`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from acereason.problems import write_atomic
from acereason.view.data import read_run

SCRIPTS = (
    "vendor/uplot/uPlot.iife.min.js",
    "charts.js",
    "sections.js",
    "curves.js",
    "responses.js",
    "page.js",
)
STYLES = ("vendor/uplot/uPlot.min.css", "page.css")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run's folder and return its path; the folder may be incomplete."""
    path = Path(run_dir) / "report.html"
    write_atomic(path, page(read_run(Path(run_dir))).encode())
    return path


def page(run: dict[str, Any]) -> str:
    """The whole page of a run as read by `read_run`."""
    script = "\n".join(map(_asset, SCRIPTS))
    parts = {
        "title": html.escape(str(run.get("name", "run"))),
        "policy": f"default-src 'none'; script-src '{_hash(script)}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'",
        "style": "\n".join(map(_asset, STYLES)),
        "script": script,
        "data": embed(run),
    }
    # one pass, so that nothing inside a part is taken for a place
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def embed(value: object) -> str:
    """JSON that may stand inside a <script> element: plain ASCII without `<`, `>` and `&`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda character: _ESCAPES[character[0]], text)


def _asset(name: str) -> str:
    return files("acereason.view").joinpath(name).read_text("utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
