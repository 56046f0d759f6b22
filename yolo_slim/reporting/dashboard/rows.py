"""The rows of the dashboard's tables."""

from __future__ import annotations

from dataclasses import dataclass

from yolo_slim.history.rows import Run
from yolo_slim.reporting.dashboard.board import Board, CellHistory, status_of

STRIP = 30
"""Nights in a cell's strip of answers."""
LOOK = {
    "worse": "fail",
    "failed": "fail",
    "missing": "unproven",
    "unknown": "unproven",
    "better": "pass",
    "same": "pass",
    "device changed": "unproven",
}
"""Answer to the class that colours it; the others are neutral."""
SIGN = {"worse": "▼", "failed": "✗", "missing": "?", "unknown": "?", "better": "▲", "same": "=", "device changed": "◆"}
"""Beside every colour, because not everybody sees it."""


@dataclass(frozen=True, kw_only=True)
class CellRow:
    """One cell in the table of cells."""

    history: CellHistory
    status: str
    reason: str
    map50_95: float | None
    map_change: float | None
    fps: float | None
    latency_change: float | None
    """Fraction of the baseline's latency; positive: slower."""
    p99_ms: float | None
    size_mb: float | None
    strip: tuple[Run, ...]
    """Its last nights."""

    @property
    def target(self) -> str:
        """Its device."""
        return self.history.cell.target


def cell_row(history: CellHistory) -> CellRow:
    """A cell's figures of its last night."""
    run = history.last
    found, judgement = run.measurement, run.judgement
    speed = found.shown_speed if found else None
    return CellRow(
        history=history,
        status=status_of(run),
        reason=judgement.reason if judgement else (run.error or "").partition("\n")[0],
        map50_95=found.accuracy.map50_95 if found else None,
        map_change=judgement.accuracy.change if judgement and judgement.accuracy else None,
        fps=speed.fps if speed else None,
        latency_change=judgement.speed.change if judgement and judgement.speed else None,
        p99_ms=speed.p99_ms if speed else None,
        size_mb=found.size_mb if found else None,
        strip=history.runs[-STRIP:],
    )


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class in the baseline's night and in the last measured one."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """What it gained."""
        return None if self.before is None or self.after is None else self.after - self.before


def class_rows(history: CellHistory) -> list[ClassRow]:
    """All classes, those that lost most first."""
    if not history.measured or (new := history.measured[-1].measurement) is None:
        return []
    baseline = history.baseline
    old = baseline.measurement.accuracy.per_class if baseline and baseline.measurement else {}
    rows = [
        ClassRow(
            name=name,
            before=old[key].ap50_95 if key in old else None,
            after=new.accuracy.per_class[key].ap50_95 if key in new.accuracy.per_class else None,
        )
        for key, name in new.accuracy.names.items()
    ]
    return sorted(rows, key=lambda row: row.change or 0.0)


def night_rows(board: Board, history: CellHistory) -> list[tuple[Run, str, str]]:
    """A cell's runs, the newest first: run, date, answer."""
    return [
        (run, board.night[run.night].started_at[:16].replace("T", " "), status_of(run)) for run in history.runs[::-1]
    ]
