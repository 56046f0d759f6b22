"""A history as JSON lines: one object a line, nothing left out, readable without yolo_slim.

Nights come first, then runs with their large parts, then baselines, and at last a line that says how many there were.
An entry that a history already has is known by its ``uid`` and left alone. So a file may be imported again, and the
histories of two machines may be joined. Only a night that hadn't ended is completed. Nobody's baseline is moved without
being asked.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from sqlite3 import IntegrityError
from typing import Any

from pydantic import ValidationError

from yolo_slim.errors import SlimError
from yolo_slim.files import require_place, write_atomic
from yolo_slim.history.reading import unknown_facts
from yolo_slim.history.rows import Baseline, Night, Run
from yolo_slim.history.schema import versions_of
from yolo_slim.history.store import PAYLOADS, RESULT, History, packed

EXPORT_SCHEMA = 2
"""2: runs have the versions of the workstation's packages."""
HEAD = {"kind": "history", "schema": EXPORT_SCHEMA}
NOT_RESUMED = ""
"""In place of the matrix's digest of a night that ran while it was exported."""
HEAD_BYTES = 200
"""More than the first line takes."""
END = "end"
"""Kind of the last line: without it the file is cut off."""
AGAIN = "Nothing was imported. Export again: yolo-slim nightly export FILE."
NEWER = "A newer yolo_slim exported this history."
UPDATE = "Nothing was imported. Update yolo_slim."


@dataclass
class Imported:
    """What an import did."""

    added: Counter[str] = field(default_factory=Counter)
    """How many nights, runs and baselines were added."""
    kept: list[Baseline] = field(default_factory=list)
    """The history's own baselines of cells for which the file has another one."""


def export(history: History, out: Path) -> int:
    """Write a history; returns the number of runs. An earlier export is replaced.

    Raises:
        SlimError: there is no such folder, or another file would be replaced.
    """
    _require_replaceable(history, out)
    counts: Counter[str] = Counter()

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as stream:
            for line in _lines(history):
                counts[line["kind"]] += 1
                stream.write(_line(line))
            stream.write(_line({"kind": END, "lines": counts.total()}))

    write_atomic(out, write)
    return counts["run"]


def _require_replaceable(history: History, out: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    require_place(out, "OUT")
    if not out.exists():
        return
    if out.samefile(history.path):
        raise SlimError(f"{out} is the history itself.", remedy="Give another file; an export is JSON lines.")
    if not _is_export(out):
        raise SlimError(
            f"{out} exists already and is no exported history: it would be replaced.",
            remedy="Give another name, or remove that file yourself.",
        )


def _is_export(path: Path) -> bool:
    """Whether a file begins as every export does."""
    with path.open("rb") as stream:
        head = stream.readline(HEAD_BYTES)
    try:
        value = json.loads(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("kind") == HEAD["kind"]


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _lines(history: History) -> Iterator[dict[str, Any]]:
    yield HEAD
    for night in history.nights():
        yield {"kind": "night", "row": night.to_json()}
    for run in history.runs():
        parts = {kind: history.payload(run.uid, kind) for kind in PAYLOADS}
        yield {"kind": "run", "row": run.to_json(), "parts": {key: part for key, part in parts.items() if part}}
    for baseline in history.baselines():
        yield {"kind": "baseline", "row": baseline.to_json()}


def read_into_new(path: Path, source: Path) -> Imported:
    """Make a history of a file, which is read once; of a bad file none is made.

    Raises:
        SlimError: as :func:`read_in`.
    """
    with tempfile.TemporaryDirectory(prefix="yolo-slim-import-") as folder:
        made = Path(folder) / "history.sqlite"
        with History.open(made, create=True) as history:
            done = read_in(history, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: shutil.copyfile(made, temporary))
    return done


def read_in(history: History, source: Path, *, take_baselines: bool = False) -> Imported:
    """Add what a file has and a history hasn't, all or nothing.

    A night keeps its number where that is free, else it gets the next one.

    Args:
        history: gets the entries.
        source: the file.
        take_baselines: set the file's baselines also for cells that have one.

    Raises:
        SlimError: no export of a history, a damaged or cut-off one, or one of a newer yolo_slim.
    """
    done = Imported()
    added, baselines = done.added, list[Baseline]()
    place, kind = 0, ""
    # As bytes: text of another encoding, or no text at all, is a damaged line.
    with source.open("rb") as stream, history.writing():
        known = {night.uid: night for night in history.nights()}
        # Into an empty history a copy is put back: its nights are this history's own.
        is_joined = bool(known)
        renumbered: dict[int, int] = {}
        for place, text in enumerate(stream, 1):
            try:
                value = json.loads(text)
                kind = _checked_kind(value, first=place == 1)
                if kind == "night":
                    added[kind] += _add_night(history, _night(value, is_joined), known, renumbered)
                elif kind == "run":
                    added[kind] += _add_run(history, value, renumbered)
                elif kind == "baseline":
                    baselines.append(Baseline.model_validate_json(json.dumps(value["row"])))
                elif kind == END:
                    _check_end(value, place)
                    added["baseline"] = _add_baselines(history, baselines, done.kept, take_baselines)
            except ValidationError as error:
                raise _refused(source, place, error) from None
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IntegrityError) as error:
                raise SlimError(
                    f"{source}, line {place}: no line of an exported history ({type(error).__name__}).",
                    remedy=AGAIN,
                ) from None
        if kind != END:
            raise SlimError(f"{source} is cut off after line {place}.", remedy=AGAIN)
    return done


def _check_end(value: Any, place: int) -> None:
    if value["lines"] != place - 1:
        raise ValueError(value["lines"])


def _refused(source: Path, place: int, error: ValidationError) -> SlimError:
    """The error of a line whose content doesn't fit."""
    if newer := unknown_facts(error):
        return SlimError(NEWER, culprits=[f"{source}, line {place}: {key}" for key in newer], remedy=UPDATE)
    return SlimError(f"{source}, line {place}: no line of an exported history ({type(error).__name__}).", remedy=AGAIN)


def _checked_kind(value: Any, *, first: bool) -> str:
    """The kind of a line."""
    if first and value.get("kind") == "history" and value["schema"] > EXPORT_SCHEMA:
        raise SlimError(NEWER, remedy=UPDATE)
    if first != (value.get("kind") == "history"):
        raise ValueError(value.get("kind"))
    return str(value["kind"])


def _night(value: Any, is_joined: bool) -> Night:
    night = Night.model_validate_json(json.dumps(value["row"]))
    # Nights are ordered by it: what is no time is damaged.
    datetime.fromisoformat(night.started_at)
    return night.model_copy(update={"imported": True}) if is_joined else night


def _add_night(history: History, night: Night, known: dict[str, Night], renumbered: dict[int, int]) -> bool:
    if old := known.get(night.uid):
        renumbered[night.number] = old.number
        if old.ended_at is None and night.ended_at:
            history.add_end(night.model_copy(update={"number": old.number, "imported": old.imported}))
        return False
    taken = {one.number for one in known.values()}
    number = night.number if night.number not in taken else max(taken) + 1
    # Where it was begun it may still go on; resumed here too, it would exist twice.
    matrix = night.matrix if night.ended_at else NOT_RESUMED
    known[night.uid] = night.model_copy(update={"number": number, "matrix": matrix})
    history.add_night(known[night.uid])
    renumbered[night.number] = number
    return True


def _add_run(history: History, value: Any, renumbered: dict[int, int]) -> bool:
    run = Run.model_validate_json(json.dumps(value["row"]))
    # Before schema 2 only the result had the versions.
    workstation = run.workstation or versions_of(value["parts"].get(RESULT))
    row = run.model_copy(update={"night": renumbered[run.night], "workstation": workstation})
    parts = {kind: packed(value["parts"][kind]) for kind in PAYLOADS if kind in value["parts"]}
    is_new = history.add_run(row, parts)
    if not is_new and run.judgement and history.run(run.uid).judgement is None:
        history.add_judgement(run.uid, run.judgement)
    return is_new


def _add_baselines(history: History, found: list[Baseline], kept: list[Baseline], take: bool) -> int:
    """Write the file's baselines of cells that have none here, or of all; returns how many were added."""
    here = {one.cell: one for one in history.baselines()}
    theirs = {one.cell: one for one in found}
    differing = [cell for cell, one in theirs.items() if cell in here and here[cell].run != one.run]
    if not take:
        kept += [here[cell] for cell in differing]
    chosen = [one for one in found if take or one.cell not in here]
    added = sum(history.add_baseline(one.cell, one.run, one.reason, one.at) for one in chosen)
    # The file's last baseline of a cell may have been here already, and the earlier ones are now behind it.
    now = {one.cell: one.run for one in history.baselines()} if take else {}
    moved = [one for cell, one in theirs.items() if take and now[cell] != one.run]
    return added + sum(history.add_baseline(one.cell, one.run, one.reason, one.at, again=True) for one in moved)
