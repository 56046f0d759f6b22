"""Writes the pages of the dashboard."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import FileSystemLoader

from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import fresh_folder, write_json
from yolo_slim.history.device_changes import DeviceChange, device_changes
from yolo_slim.history.rows import WORST_FIRST
from yolo_slim.history.store import History
from yolo_slim.reporting import pages
from yolo_slim.reporting.charts import page
from yolo_slim.reporting.dashboard import facts
from yolo_slim.reporting.dashboard.board import Board, CellHistory, device_page, read, status_of
from yolo_slim.reporting.dashboard.devices import device
from yolo_slim.reporting.dashboard.events import Event, events
from yolo_slim.reporting.dashboard.front import fronts, legend
from yolo_slim.reporting.dashboard.pictures import pairs, worse_images
from yolo_slim.reporting.dashboard.rows import LOOK, SIGN, CellRow, cell_row, class_rows, night_rows
from yolo_slim.reporting.dashboard.trends import levels_are_dated, trends

TEMPLATES = Path(__file__).with_name("pages")
MANIFEST = "dashboard.json"
"""Written last: a folder with it is a dashboard, and may be replaced."""
RECENT = 40
"""Events on the first page."""


@dataclass(frozen=True)
class Site:
    """What was written."""

    index: Path
    nights: int
    cells: int
    files: int
    megabytes: float
    notes: tuple[str, ...] = ()
    """What a page lacks, and why."""


def write_dashboard(history: History, folder: Path) -> Site:
    """Write all pages into a folder; an older dashboard there is replaced as a whole.

    Raises:
        SlimError: the history has no night; or the folder has something else in it, or is the working folder.
    """
    _require_ours(folder)
    board = read(history)
    with os_errors_explained(folder), fresh_folder(folder) as new:
        unreadable = _write_pages(history, board, new)
        files = [path for path in new.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        write_json(new / MANIFEST, {"nights": len(board.nights), "cells": len(board.cells)})
    return Site(
        folder / "index.html", len(board.nights), len(board.cells), len(files), round(size, 2),
        notes=_notes(unreadable),
    )  # fmt: skip


def _notes(unreadable: Sequence[str]) -> tuple[str, ...]:
    """What the pages lack because of results that can't be read."""
    if not unreadable:
        return ()
    more = f" (and {len(unreadable) - 1} more networks)" if len(unreadable) > 1 else ""
    return (f"no channels on the page Compare two runs: {unreadable[0]}{more}",)


def _require_ours(folder: Path) -> None:
    """Refuse to replace what isn't a dashboard, or the folder that a shell is in."""
    if Path.cwd().is_relative_to(folder.resolve()):
        raise SlimError(
            f"The dashboard would replace the working folder: {folder.resolve()}.",
            remedy=f"Give a folder of its own, such as --out {folder / 'dashboard'}.",
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
        raise SlimError(
            f"{folder} has something else than a dashboard in it; it would be replaced.",
            remedy="Give another folder (--out), or empty that one yourself.",
        )


def _write_pages(history: History, board: Board, folder: Path) -> list[str]:
    """Write every file; returns what is wrong with results that can't be read."""
    environment = pages.environment(FileSystemLoader(TEMPLATES))
    environment.globals |= {"look": LOOK, "sign": SIGN}
    environment.filters |= {"answer": status_of, "device_page": device_page}
    cell_events = {one.cell.name: events(one, board.night) for one in board.cells}
    rows = [cell_row(one) for one in board.cells]
    images = worse_images(history, board.cells, folder)
    shared = {
        "board": board, "last": board.nights[-1], "rows": rows, "pairs": pairs(board.cells, images),
        "levels_are_dated": levels_are_dated(),
    }  # fmt: skip

    def write(name: str, template: str, **values: object) -> None:
        text = environment.get_template(template).render(**shared, **values)
        (folder / name).write_text(text, encoding="utf-8")

    for one, row in zip(board.cells, rows, strict=True):
        found = cell_events[one.cell.name]
        write(
            one.page, "cell.html.j2", one=one, row=row, trends=trends(board, one, found), events=found[::-1],
            classes=class_rows(one), images=images.get(one.cell.name, ()), nights=night_rows(board, one),
        )  # fmt: skip
    for target, cells in board.devices.items():
        own = [row for row in rows if row.target == target]
        write(cells[0].device_page, "device.html.j2", target=target, own=own, found=device(board, cells, cell_events))
    write("diff.html", "diff.html.j2")
    runs = facts.all_runs(history, board)
    _write_data(folder, "runs.js", "runs", runs)
    _write_assets(folder)
    tonight = [row for row in rows if row.history.last.night == board.nights[-1].number]
    changed = device_changes(row.history.last for row in tonight)
    write(
        "index.html", "index.html.j2", headline=_headline(tonight, changed), changed=changed,
        older=len(rows) - len(tonight),
        fronts=fronts(board), legend=legend(board), counts=_counts(rows),
        recent=_recent(board, cell_events), all_nights=_all_nights(board),
    )  # fmt: skip
    return list(runs["unreadable"].values())


def _write_assets(folder: Path) -> None:
    """The library, the scripts and the style, beside the pages that share them."""
    (folder / "bokeh.min.js").write_bytes(page.LIBRARY.read_bytes())
    (folder / "charts.js").write_text(page.drawing(), encoding="utf-8")
    own = (TEMPLATES / "dashboard.css").read_text(encoding="utf-8")
    (folder / "style.css").write_text(f"{pages.stylesheet()}\n{own}", encoding="utf-8")
    for name in ("filter.js", "diff.js"):
        (folder / name).write_bytes((TEMPLATES / name).read_bytes())


def _write_data(folder: Path, file: str, name: str, value: object) -> None:
    """Data as a script: a page that was opened from a disk may not read other files."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    (folder / file).write_text(f"window.{name}={text};\n", encoding="utf-8")


JUDGED = ("worse", "same", "better")
"""Answers that compare a cell with its baseline."""


def _headline(tonight: Sequence[CellRow], changed: Sequence[DeviceChange]) -> str:
    """What the last night says of the cells that it has."""
    if not tonight:
        return "no cell is recorded yet"
    worse, judged = (sum(row.status in chosen for row in tonight) for chosen in (("worse",), JUDGED))
    silent = len(tonight) - judged
    parts = [f"{worse} of {len(tonight)} cells worse"]
    parts += [f"{silent} not compared"] if silent else []
    parts += [f"{len(changed)} device{'s' if len(changed) > 1 else ''} changed"] if changed else []
    return ", ".join(parts)


def _counts(rows: Sequence[CellRow]) -> Mapping[str, int]:
    """How many cells have which answer, the worst first."""
    counts = Counter(row.status for row in rows)
    return {status: counts[status] for status in sorted(counts, key=lambda one: (*WORST_FIRST, one).index(one))}


def _recent(board: Board, found: Mapping[str, Sequence[Event]]) -> list[tuple[Event, list[CellHistory]]]:
    """The newest events, those of several cells once."""
    who: dict[Event, list[CellHistory]] = {}
    for one in board.cells:
        for event in found[one.cell.name]:
            who.setdefault(event, []).append(one)
    return board.newest_first(who.items(), lambda item: item[0].night)[:RECENT]


def _all_nights(board: Board) -> list[tuple[object, Mapping[str, int]]]:
    """All nights with their answers, the newest first."""
    counts: dict[int, Counter[str]] = {night.number: Counter() for night in board.nights}
    for one in board.cells:
        for run in one.runs:
            counts[run.night][status_of(run)] += 1
    return [(night, counts[night.number]) for night in reversed(board.nights)]
