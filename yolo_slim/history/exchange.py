"""A history as JSON lines: one object a line, nothing left out, readable without yolo_slim.

Nights come first, then runs with their large parts, then baselines. What a history has already is recognised by its
``uid`` and left alone, so a file may be imported again, and two machines' histories may be joined.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from yolo_slim.errors import SlimError
from yolo_slim.files import write_atomic
from yolo_slim.history.rows import Baseline, Night, Run
from yolo_slim.history.store import PAYLOADS, History, packed

EXPORT_SCHEMA = 1
HEAD = {"kind": "history", "schema": EXPORT_SCHEMA}


def export(history: History, out: Path) -> int:
    """Write a history; returns the number of runs."""
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with temporary.open("w", encoding="utf-8") as stream:
            for line in _lines(history):
                count += line["kind"] == "run"
                stream.write(json.dumps(line, separators=(",", ":")) + "\n")

    write_atomic(out, write)
    return count


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
    with source.open(encoding="utf-8") as stream, history.writing():
        number_of = {night.uid: night.number for night in history.nights()}
        renumbered: dict[int, int] = {}
        for place, text in enumerate(stream, 1):
            try:
                value = json.loads(text)
                kind = _checked_kind(value, first=place == 1)
                if kind == "night":
                    added[kind] += _add_night(history, value, number_of, renumbered)
                elif kind == "run":
                    added[kind] += _add_run(history, value, renumbered)
                elif kind == "baseline":
                    added[kind] += _add_baseline(history, value)
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                raise SlimError(
                    f"{source}, line {place}: no line of an exported history ({type(error).__name__}).",
                    remedy="Nothing was imported. Export again: yolo-slim nightly export FILE.",
                ) from None
    return added


def _checked_kind(value: Any, *, first: bool) -> str:
    """The kind of a line."""
    if first and value.get("kind") == "history" and value["schema"] > EXPORT_SCHEMA:
        raise SlimError("A newer yolo_slim exported this history.", remedy="Update yolo_slim.")
    if first != (value.get("kind") == "history"):
        raise ValueError(value.get("kind"))
    return str(value["kind"])


def _add_night(history: History, value: Any, number_of: dict[str, int], renumbered: dict[int, int]) -> bool:
    night = Night.model_validate_json(json.dumps(value["row"]))
    if known := number_of.get(night.uid):
        renumbered[night.number] = known
        return False
    taken = set(number_of.values())
    number = night.number if night.number not in taken else max(taken) + 1
    history.add_night(night.model_copy(update={"number": number}))
    number_of[night.uid] = renumbered[night.number] = number
    return True


def _add_run(history: History, value: Any, renumbered: dict[int, int]) -> bool:
    run = Run.model_validate_json(json.dumps(value["row"]))
    row = run.model_copy(update={"night": renumbered[run.night]})
    return history.add_run(row, {kind: packed(value["parts"][kind]) for kind in PAYLOADS if kind in value["parts"]})


def _add_baseline(history: History, value: Any) -> bool:
    one = Baseline.model_validate_json(json.dumps(value["row"]))
    return history.add_baseline(one.cell, one.run, one.reason, one.at)
