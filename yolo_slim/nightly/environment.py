"""The facts of a device that may change its figures, as flat text."""

from __future__ import annotations

from yolo_slim.devices.answers import Bench

VOLATILE = ("memory_available_mb",)
"""Facts that differ from minute to minute."""


def environment_of(bench: Bench) -> dict[str, str]:
    """Put together what a timing says of its machine, its clocks and what ran there."""
    facts = {**bench.machine.model_dump(), **bench.runtime.model_dump()}
    state = {"governors": ",".join(bench.before.governors)}
    known = {key: value for key, value in {**facts, **state}.items() if value not in (None, "", [], ())}
    return {key: _text(value) for key, value in known.items() if key not in VOLATILE}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
