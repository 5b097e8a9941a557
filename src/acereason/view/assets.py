"""What the page is made of, served file by file or put into one."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

STYLES = ("vendor/uplot/uPlot.min.css", "page.css", "everyone.css", "reader.css")
COMMON = (
    "vendor/uplot/uPlot.iife.min.js",
    "vendor/katex/katex.min.js",
    "charts.js",
    "take.js",
    "everyone.js",
    "code.js",
    "formulas.js",
    "diff.js",
    "sections.js",
    "curves.js",
    "responses.js",
    "find.js",
    "reader.js",
    "listing.js",
    "health.js",
    "run.js",
    "desk.js",
    "overview.js",
    "compare.js",
    "studies.js",
)
LIVE = (*COMMON, "live.js", "page.js")  # answers come from the server
FILE = (*COMMON, "embedded.js", "page.js")  # answers stand in the file
FORMULAS = "vendor/katex/katex.min.css"
FONTS = "vendor/katex/fonts"
SERVED = (*STYLES, *LIVE, FORMULAS, "icon.svg")
KINDS = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg+xml"}


@cache
def asset(name: str) -> str:
    """The text of a file of the page."""
    return files("acereason.view").joinpath("page", name).read_text("utf-8")


def fonts() -> dict[str, bytes]:
    """The fonts of formulas by their names. A report has none: its formulas are MathML."""
    folder = files("acereason.view").joinpath("page", FONTS)
    return {f"{FONTS}/{file.name}": file.read_bytes() for file in folder.iterdir()}


def served(name: str) -> tuple[str, str]:
    """A file with its type."""
    return asset(name), KINDS[name.rpartition(".")[2]]


def shell() -> tuple[str, str]:
    """The page that asks the server."""
    styles = "\n".join(f'<link rel="stylesheet" href="/{name}">' for name in (*STYLES, FORMULAS))
    scripts = "\n".join(f'<script defer src="/{name}"></script>' for name in LIVE)
    icon = '<link rel="icon" href="/icon.svg">'
    return filled(title="acereason", head=f"{icon}\n{styles}", foot=scripts), "text/html"


def filled(**parts: str) -> str:
    """page.html with its places filled in one pass, so that nothing inside a part is taken for a place."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], asset("page.html"))
