"""What the documentation points at is there: messages in the code, files, headings."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"|srcset=\"([^\"]+)\"")


@cache
def texts() -> list[str]:
    """Every string of the code, what is filled in shown as …"""
    found = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append(" ".join("".join(map(str, parts)).split()))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
    return found


def messages() -> list[str]:
    rows = [line for line in (ROOT / "docs" / "faq.md").read_text().splitlines() if line.startswith("| `")]
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("message", messages())
def test_every_message_of_the_faq_is_said_by_the_code(message: str) -> None:
    parts = [part.strip() for part in message.split("…") if part.strip()]
    assert all(any(says(text, part) for text in texts()) for part in parts), message


def says(text: str, part: str) -> bool:
    """Whether a string of the code holds the part, or makes it by what it fills in."""
    if part in text or "…" not in text:
        return part in text
    pieces = text.split("…")
    return sum(map(len, pieces)) >= 12 and bool(re.search(".+".join(map(re.escape, pieces)), part))


def test_the_faq_has_messages() -> None:
    assert len(messages()) > 8


def slug(heading: str) -> str:
    """The anchor that GitHub and mkdocs make of a heading."""
    plain = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def headings(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {slug(line.lstrip("#")) for line in text.splitlines() if re.match(r"#+ ", line)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    dead = []
    for target in filter(None, (a or b or c for a, b, c in LINK.findall(text))):
        where, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", where):
            continue
        file = page if not where else (page.parent / where)
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            dead.append(target)
    assert dead == []
