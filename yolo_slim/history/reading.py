"""Stored facts become typed rows, and nights get their order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from yolo_slim.config.record import Record
from yolo_slim.errors import SlimError
from yolo_slim.history.rows import Night

NOT_KNOWN_YET = ("extra_forbidden", "literal_error")
"""Pydantic's words for a key, and for one of several texts, that a class doesn't have."""
RESTORE = "Put a copy in its place, or import an export: yolo-slim nightly import FILE."
Kind = TypeVar("Kind", bound=Record)


def read_facts(kind: type[Kind], value: object, source: str) -> Kind:
    """Check a stored JSON value and make a ``kind`` of it.

    Raises:
        SlimError: a newer yolo_slim wrote it, or it is damaged.
    """
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValidationError as error:
        newer = unknown_facts(error)
        if newer:
            raise SlimError(
                f"{source} has facts that this yolo_slim doesn't know: a newer version wrote them.",
                culprits=newer,
                remedy="Update yolo_slim.",
            ) from None
        problems = [f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise SlimError(f"{source} is damaged.", culprits=problems, remedy=RESTORE) from None


def parsed(text: str, source: str) -> dict[str, object]:
    """The stored facts of a row.

    Raises:
        SlimError: they are no JSON object.
    """
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise SlimError(f"{source} is damaged: {error}.", remedy=RESTORE) from None


def unknown_facts(error: ValidationError) -> list[str]:
    """The keys that only a newer yolo_slim knows; empty: something else is wrong."""
    problems = error.errors()
    newer = all(problem["type"] in NOT_KNOWN_YET for problem in problems)
    return [_place(problem["loc"]) for problem in problems] if newer else []


def _place(location: Sequence[object]) -> str:
    return ".".join(map(str, location))


def in_order(nights: Sequence[Night]) -> list[Night]:
    """Sort nights by when they began.

    A night of this history follows those before it, even if the clock was set back. Imported nights have only their
    time.
    """
    began: dict[int, float] = {}
    last = float("-inf")
    for night in sorted(nights, key=lambda one: one.number):
        began[night.number] = datetime.fromisoformat(night.started_at).timestamp()
        if not night.imported:
            last = began[night.number] = max(last, began[night.number])
    # Of two that began in the same second the imported one goes first: it is surely not later.
    return sorted(nights, key=lambda one: (began[one.number], not one.imported, one.number))
