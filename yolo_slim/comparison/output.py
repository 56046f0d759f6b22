"""Write what a comparison found: the result, the page and the table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.comparison.folder import REPORT, RESULT, TABLE
from yolo_slim.comparison.page import render
from yolo_slim.comparison.result import CompareResult
from yolo_slim.comparison.text import markdown
from yolo_slim.files import write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a comparison produced."""

    folder: Path
    status: str
    """``won``, ``lost`` or ``undecided``."""
    verdict: str
    """The same in plain words."""
    result: Path
    """``compare.json``, see docs/compare.md."""
    report: Path
    """``compare.html``."""
    table: Path
    """``compare.md``."""


def write(folder: Path, result: CompareResult) -> Outcome:
    """Write all files of a result; compare.json is last, so that its date says that the others are written."""
    report, table, values = folder / REPORT, folder / TABLE, folder / RESULT
    write_text(report, render(result))
    write_text(table, markdown(result))
    write_json(values, result.to_json())
    verdict = result.verdict
    return Outcome(
        folder=folder, status=verdict.status, verdict=verdict.text, result=values, report=report, table=table
    )
