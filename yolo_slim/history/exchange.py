"""A history as JSON lines: one object a line, nothing left out, readable without yolo_slim.

Nights come first, then runs with their large parts, then baselines, and at last a line that says how many there were.
An entry that a history already has is known by its ``uid`` and left alone. So a file may be imported again, and the
histories of two machines may be joined. Only a night that hadn't ended is completed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import IntegrityError
from typing import Any

from yolo_slim.errors import SlimError
from yolo_slim.files import write_atomic
from yolo_slim.history.rows import Baseline, Night, Run
from yolo_slim.history.store import PAYLOADS, History, packed

EXPORT_SCHEMA = 1
HEAD = {"kind": "history", "schema": EXPORT_SCHEMA}
NOT_RESUMED = ""
"""In place of the matrix's digest of a night that ran while it was exported."""
END = "end"
"""Kind of the last line: without it the file is cut off."""
AGAIN = "Nothing was imported. Export again: yolo-slim nightly export FILE."


def export(history: History, out: Path) -> int:
    """Write a history; returns the number of runs."""
    counts: Counter[str] = Counter()

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as stream:
            for line in _lines(history):
                counts[line["kind"]] += 1
                stream.write(_line(line))
            stream.write(_line({"kind": END, "lines": counts.total()}))

    write_atomic(out, write)
    return counts["run"]


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


def read_in(history: History, source: Path) -> Counter[str]:
    """Add what a file has and a history hasn't, all or nothing; returns how many of each kind were added.

    A night keeps its number where that is free, else it gets the next one.

    Raises:
        SlimError: no export of a history, a damaged or cut-off one, or one of a newer yolo_slim.
    """
    added: Counter[str] = Counter()
    place, kind = 0, ""
    with source.open(encoding="utf-8") as stream, history.writing():
        known = {night.uid: night for night in history.nights()}
        renumbered: dict[int, int] = {}
        for place, text in enumerate(stream, 1):
            try:
                value = json.loads(text)
                kind = _checked_kind(value, first=place == 1)
                if kind == "night":
                    added[kind] += _add_night(history, value, known, renumbered)
                elif kind == "run":
                    added[kind] += _add_run(history, value, renumbered)
                elif kind == "baseline":
                    added[kind] += _add_baseline(history, value)
                elif kind == END and value["lines"] != place - 1:
                    raise ValueError(value["lines"])
            except (ValueError, KeyError, TypeError, AttributeError, IntegrityError) as error:
                raise SlimError(
                    f"{source}, line {place}: no line of an exported history ({type(error).__name__}).",
                    remedy=AGAIN,
                ) from None
        if kind != END:
            raise SlimError(f"{source} is cut off after line {place}.", remedy=AGAIN)
    return added


def _checked_kind(value: Any, *, first: bool) -> str:
    """The kind of a line."""
    if first and value.get("kind") == "history" and value["schema"] > EXPORT_SCHEMA:
        raise SlimError("A newer yolo_slim exported this history.", remedy="Update yolo_slim.")
    if first != (value.get("kind") == "history"):
        raise ValueError(value.get("kind"))
    return str(value["kind"])


def _add_night(history: History, value: Any, known: dict[str, Night], renumbered: dict[int, int]) -> bool:
    night = Night.model_validate_json(json.dumps(value["row"]))
    if old := known.get(night.uid):
        renumbered[night.number] = old.number
        if old.ended_at is None and night.ended_at:
            history.add_end(night.model_copy(update={"number": old.number}))
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
    row = run.model_copy(update={"night": renumbered[run.night]})
    parts = {kind: packed(value["parts"][kind]) for kind in PAYLOADS if kind in value["parts"]}
    is_new = history.add_run(row, parts)
    if not is_new and run.judgement and history.run(run.uid).judgement is None:
        history.add_judgement(run.uid, run.judgement)
    return is_new


def _add_baseline(history: History, value: Any) -> bool:
    one = Baseline.model_validate_json(json.dumps(value["row"]))
    return history.add_baseline(one.cell, one.run, one.reason, one.at)
