"""Checked values of a device's answer: what isn't as it should be is a :class:`ValueError` that quotes it."""

from __future__ import annotations

from math import inf


def milliseconds(value: object) -> float:
    """A duration: a finite number above 0."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < inf:
        raise ValueError(f"{value!r} is no duration")
    return float(value)


def durations(value: object) -> tuple[float, ...]:
    """At least one duration, from a list."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} is no list of durations")
    return tuple(milliseconds(one) for one in value)


def threads(value: object) -> int:
    """A number of threads."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is no number of threads")
    return value


def reasons(value: object) -> tuple[str, ...]:
    """Why a timing doesn't count, from a list of texts."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{value!r} is no list of texts")
    return tuple(value)
