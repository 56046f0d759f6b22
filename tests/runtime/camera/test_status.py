"""States of the camera and the age of a picture."""

from __future__ import annotations

import pytest

from yolo_slim.runtime.camera.status import SourceStatus, Status, back_off_s, freshness, status_of


@pytest.mark.parametrize(
    ("age_s", "interval_s", "expected"),
    [
        (None, None, "live"),
        (0.9, None, "live"),
        (1.0, None, "stale"),
        (1.0, 1 / 30, "stale"),
        (2.9, 1 / 30, "stale"),
        (3.0, 1 / 30, "grey"),
        (2.9, 1.0, "live"),
        (3.0, 1.0, "stale"),
        (9.0, 1.0, "grey"),
    ],
)
def test_age(age_s: float | None, interval_s: float | None, expected: str) -> None:
    """Stale after a second or three intervals, grey after three times that."""
    assert freshness(age_s, interval_s) == expected


@pytest.mark.parametrize(
    ("source", "age", "is_paused", "state"),
    [
        (SourceStatus(phase="open"), "live", False, "live"),
        (SourceStatus(phase="open"), "stale", False, "stale"),
        (SourceStatus(phase="open"), "grey", False, "stale"),
        (SourceStatus(phase="open"), "grey", True, "paused"),
        (SourceStatus(phase="lost"), "live", True, "lost"),
        (SourceStatus(phase="connecting"), "live", False, "connecting"),
        (SourceStatus(phase="ended"), "live", True, "ended"),
    ],
)
def test_state(source: SourceStatus, age: str, is_paused: bool, state: str) -> None:
    """A source that is gone counts more than a pause, a pause more than an old picture."""
    assert status_of(source, age, is_paused=is_paused, now_s=0.0).state == state


def test_next_try_is_relative() -> None:
    """People are told the seconds from now, never a negative number."""
    source = SourceStatus(phase="lost", reason="gone", next_try_at_s=12.0)
    assert status_of(source, "live", is_paused=False, now_s=10.0) == Status(state="lost", reason="gone", next_try_s=2.0)
    assert status_of(source, "live", is_paused=False, now_s=13.0).next_try_s == 0.0


def test_back_off() -> None:
    """Each try waits longer, up to the last step."""
    assert [back_off_s((1, 2, 4, 8, 10), failures) for failures in range(1, 8)] == [1, 2, 4, 8, 10, 10, 10]
