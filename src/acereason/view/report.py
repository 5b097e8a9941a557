"""`report.html`: a run as one file that opens anywhere, from a disk, without a network.

Style, charts and data stand inside the file. Responses are written by a model and may hold anything, so
they are made inert twice: in the embedded JSON every `<`, `>`, `&` is a `\\u` escape and the page shows
text as text nodes only; and a Content-Security-Policy allows just the one script and the one style whose
hashes it names, and no request at all. Only a few groups of each stage's last step are taken along;
`acereason view` shows every response. Charts are drawn by uPlot (MIT), kept in `vendor/`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from acereason.files import write_atomic
from acereason.view.assets import FILE, STYLES, asset, filled
from acereason.view.data import read_run
from acereason.view.groups import report_groups

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run's folder and return its path; the folder may be incomplete."""
    path = Path(run_dir) / "report.html"
    write_atomic(path, page(with_responses(Path(run_dir))).encode())
    return path


def with_responses(run_dir: Path) -> dict[str, Any]:
    """All that a report holds: the run's numbers and some of its responses."""
    run = read_run(run_dir)
    stages = [span["name"] for span in run["stages"]]
    return {**run, "responses": report_groups(run_dir, stages, run["notes"])}


def page(run: dict[str, Any]) -> str:
    """The whole page of a run as `with_responses` reads it."""
    script, style = ("\n".join(map(asset, names)) for names in (FILE, STYLES))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    data = f'<script type="application/json" id="run">{embed(run)}</script>'
    return filled(
        title=f"{html.escape(str(run.get('name', 'run')))} · acereason",
        head=f"{meta}\n<style>{style}</style>",
        foot=f"{data}\n<script>{script}</script>",
    )


def embed(value: object) -> str:
    """JSON that may stand inside a <script> element: plain ASCII without `<`, `>` and `&`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda character: _ESCAPES[character[0]], text)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
