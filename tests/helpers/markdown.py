"""Links, pictures, anchors and commands of Markdown pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.constants import ROOT

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    *sorted((ROOT / "datasets").glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
"""Every page of the repository that a person reads."""


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page; a repeated one is numbered."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    slugs = [_slug(heading) for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)]
    seen: Counter[str] = Counter()
    found = set()
    for slug in slugs:
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def links(markdown: str) -> Iterator[str]:
    """Where links and pictures lead; those in code are none."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    text = re.sub(r"^    .*$|`[^`]*`", "", text, flags=re.MULTILINE)
    yield from re.findall(r"\]\(([^)\s]+)[^)]*\)", text)
    yield from re.findall(r"<(?:img|source|a)[^>]* (?:src|srcset|href)=\"([^\"]+)\"", text)


def broken(page: Path, markdown: str) -> list[str]:
    """The links of a page that name no file, or no heading of a page."""
    return [link for link in links(markdown) if "://" not in link and not _leads_somewhere(page, markdown, link)]


def _leads_somewhere(page: Path, markdown: str, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return False
    if not anchor or target.suffix != ".md":
        return not anchor
    return anchor in anchors(target.read_text(encoding="utf-8") if name else markdown)


def blocks(markdown: str) -> Iterator[str]:
    """The indented blocks of code of a page."""
    for block in re.findall(r"(?:^    .*\n(?:[ \t]*\n(?=    ))*)+", markdown, re.MULTILINE):
        yield "\n".join(line[4:] for line in block.splitlines())


def commands(start: str) -> list[str]:
    """Collect the commands of all pages' blocks that begin so, without those with blanks to fill in."""
    found = set()
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.split(r"\s{2,}|\s#|;| && ", line.removeprefix("$ "))[0].strip()
                if command.startswith(start) and not re.search(r"[|\[<]|\.\.\.", command):
                    found.add(command)
    return sorted(found)
