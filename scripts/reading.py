"""How easily the pages read: reading ease, words a sentence and the longest sentence of each.

    python scripts/reading.py
    python scripts/reading.py --record docs/benchmarks/records/reading.json

Flesch's reading ease (1948) is about 60 to 70 for plain English; 30 is a scientific paper. The package `readability`
counts. Code, tables and headings are left out: only sentences are read.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|\d[\d.,]*")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page's figures."""

    page: str
    sentences: int
    words_per_sentence: float
    reading_ease: float
    longest: int
    """Words of the longest sentence."""


def pages() -> list[Path]:
    """README and the documentation, without what is generated from the settings."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    generated = ("configuration.md", "api.md", "result.md")
    return [path for path in found if path.name not in generated and "_build" not in path.parts]


def sentences(markdown: str) -> list[str]:
    """The sentences of a page's prose: paragraphs and items of lists."""
    return [sentence for block in _prose(markdown) for sentence in _split(_plain(block)) if WORD.search(sentence)]


def words(sentence: str) -> list[str]:
    """The words of a sentence; code and numbers count as one each."""
    return WORD.findall(sentence)


def _prose(markdown: str) -> Iterator[str]:
    """Blocks of text: no code, tables, headings, pictures or comments."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", markdown, flags=re.DOTALL)
    # An item of a list is a block of its own.
    text = re.sub(r"^(\s*)(?:[-*]|\d+\.) ", r"\n\1", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not re.match(r"\s*[|#<]|    |!\[", line)]
        if lines:
            yield " ".join(line.strip(" >") for line in lines)


def _plain(block: str) -> str:
    """Without marks: links are their text, code is one word."""
    block = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", block)
    block = re.sub(r"`[^`]*`", "code", block)
    return re.sub(r"[*_]{1,2}([^*_]+)[*_]{1,2}", r"\1", block)


def _split(text: str) -> list[str]:
    """Cut behind a full stop, question mark or colon that ends a thought."""
    return [part for part in re.split(r"(?<=[.!?:])\)?\s+(?=[A-Z(\"]|code\b)", text) if part]


def measure(path: Path) -> Page | None:
    """The figures of one page; None: there is no sentence in it."""
    import readability

    found = sentences(path.read_text(encoding="utf-8"))
    if not found:
        return None
    counts = [len(words(sentence)) for sentence in found]
    text = "\n".join(" ".join(words(sentence)) + " ." for sentence in found)
    grades = readability.getmeasures(text, lang="en")["readability grades"]
    return Page(
        page=path.relative_to(ROOT).as_posix(),
        sentences=len(found),
        words_per_sentence=round(sum(counts) / len(counts), 1),
        reading_ease=round(grades["FleschReadingEase"], 1),
        longest=max(counts),
    )


def show(found: Sequence[Page]) -> str:
    """The hardest page first."""
    rows = sorted(found, key=lambda page: page.reading_ease)
    head = f"{'page':<34} {'ease':>6} {'words/sentence':>15} {'longest':>8}"
    return "\n".join(
        [head, *(f"{p.page:<34} {p.reading_ease:>6} {p.words_per_sentence:>15} {p.longest:>8}" for p in rows)]
    )


def main() -> None:
    """Measure every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = [page for path in pages() if (page := measure(path))]
    print(show(found))
    if args.record:
        about = {"readability": version("readability"), "python": platform.python_version()}
        about["measured_at"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        content = {**about, "pages": [asdict(page) for page in found]}
        args.record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
