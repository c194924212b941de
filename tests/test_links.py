"""Links between the documents lead somewhere: files are there, and so are the headings that are named."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What a make target writes, and whoever has not run it lacks.
MADE = {ROOT / "docs" / "compose-test.log"}

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")])


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_relative_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if (not target.exists() and target not in MADE) or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_a_lost_link_would_be_seen() -> None:
    assert "the-promises" in anchors(ROOT / "docs" / "reliability.md")
    assert "no-such-heading" not in anchors(ROOT / "docs" / "reliability.md")
    assert "what-a-worker-computes-in" in anchors(ROOT / "README.md")


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """Return what may stand behind the `#`: headings as web pages make anchors of them, and marks set by hand."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        if count:
            found[f"{name}-{count}"] = 1
    return set(found) | set(re.findall(r'<a id="([^"]+)"', page.read_text(encoding="utf-8")))
