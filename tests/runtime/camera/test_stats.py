"""Figures of the last minute, from events at given times."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers.tiny_detector import scene
from yolo_slim.runtime.camera.frame import Answer, Frame, Shown
from yolo_slim.runtime.camera.stats import MOST_EVENTS, LastMinute, LiveStats, Totals
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import StageTimes

NOTHING = Detections(
    boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), class_ids=np.zeros(0, np.int64)
)
IMAGE = scene()


def add(minute: LastMinute, captured_s: float, *, dropped: int = 0, **total_ms: float) -> None:
    """Let a frame arrive, be taken 10 ms later, detected after 35 and shown after 40 ms."""
    answers = {
        name: Answer(detections=NOTHING, times=StageTimes(pre_ms=1, infer_ms=value - 2, post_ms=1, total_ms=value))
        for name, value in (total_ms or {"slim": 20.0}).items()
    }
    frame = Frame(image=IMAGE, index=0, captured_s=captured_s)
    shown = Shown(frame=frame, answers=answers, sequence=0, ready_s=captured_s + 0.035)
    for _ in range(dropped + 1):
        minute.captured(captured_s)
    minute.shown(shown, taken_s=captured_s + 0.01, at_s=captured_s + 0.04, dropped=dropped)


def test_figures() -> None:
    """Rates are events by time; latency ends with the detections; each bundle has its own speed."""
    minute = LastMinute()
    for number in range(100):
        add(minute, number / 10, dropped=1, slim=20.0, control=50.0)
    found = minute.figures(10.0)
    assert found.fps == pytest.approx(10.0)
    assert found.fps_now == pytest.approx(10.0, abs=0.3)
    assert found.source_fps == pytest.approx(20.0)
    assert found.latency_ms == {"p50": pytest.approx(35), "p99": pytest.approx(35)}
    assert found.queue_age_ms == pytest.approx(10)
    assert found.dropped_last_minute == 100
    assert {name: one.fps for name, one in found.bundles.items()} == {"slim": 50.0, "control": 20.0}
    assert (found.bundles["slim"].infer_ms, found.bundles["slim"].pre_ms) == (18.0, 1.0)


def test_stall_lowers_the_rate() -> None:
    """Negative control: seconds without a frame count, so a camera that stalls can't claim its model's speed."""
    minute = LastMinute()
    for number in range(100):
        add(minute, number / 10)
    assert minute.figures(20.0).fps == pytest.approx(5.0)
    assert minute.figures(20.0).fps_now == 0.0


def test_old_events_fade() -> None:
    """Only the last minute counts, and a minute later there is nothing left."""
    minute = LastMinute()
    add(minute, 0.0, dropped=7, slim=500.0)
    for number in range(60):
        add(minute, 40.0 + number)
    found = minute.figures(99.5)
    assert (found.dropped_last_minute, found.bundles["slim"].total_ms) == (0, 20.0)
    gone = minute.figures(200.0)
    assert (gone.fps, gone.source_fps, gone.bundles) == (0.0, 0.0, {})


def test_memory_is_flat() -> None:
    """A source that is much faster than cameras shortens the window; its rate stays right."""
    minute = LastMinute()
    for number in range(2 * MOST_EVENTS):
        minute.captured(number / 1000)
    assert minute.figures(2 * MOST_EVENTS / 1000).source_fps == pytest.approx(1000, rel=0.01)


def test_interval_outlives_a_stall() -> None:
    """One long gap doesn't change how often a frame usually comes."""
    minute = LastMinute()
    assert minute.interval_s is None
    for number in range(20):
        add(minute, number / 10 + (30 if number > 15 else 0))
    assert minute.interval_s == pytest.approx(0.1)


def stats(minute: LastMinute, **values: object) -> LiveStats:
    """Figures with everything around them."""
    usual = {
        "state": "live", "reason": "", "next_try_s": None, "age_s": 0.02, "freshness": "live", "uptime_s": 10.0,
        "source": "cam", "figures": minute.figures(10.0), "totals": Totals(shown=100, captured=103, dropped=3),
        "celsius": 61.2,
    }  # fmt: skip
    return LiveStats(**{**usual, **values})


@pytest.fixture
def minute() -> LastMinute:
    """Ten seconds at 10 FPS."""
    found = LastMinute()
    for number in range(100):
        add(found, number / 10)
    return found


def test_json(minute: LastMinute) -> None:
    """Outputs and page find these keys, and the value is plain JSON."""
    value = json.loads(json.dumps(stats(minute, throttled=("throttled",)).to_json()))
    assert value["latency_ms"] == {"p50": pytest.approx(35), "p99": pytest.approx(35)}
    assert value["infer_ms"] == {"p50": 18.0}
    assert (value["dropped"], value["totals"]["captured"], value["throttled"]) == (3, 103, ["throttled"])
    assert {"fps", "source_fps", "queue_age_ms", "age_s", "state", "reason", "celsius", "rss_mb"} <= set(value)
    assert value["bundles"]["slim"]["fps"] == 50.0


def test_json_before_the_first_frame() -> None:
    """Every key is there from the start."""
    value = stats(LastMinute()).to_json()
    assert (value["fps"], value["infer_ms"], value["latency_ms"]) == (0.0, {"p50": None}, {"p50": None, "p99": None})


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "10.0 FPS, 35 ms, infer 18 ms, 3 dropped, 61 C"),
        ({"celsius": None}, "10.0 FPS, 35 ms, infer 18 ms, 3 dropped"),
        ({"throttled": ("under-voltage",), "celsius": None},
         "10.0 FPS, 35 ms, infer 18 ms, 3 dropped, THROTTLED: under-voltage"),
        ({"state": "stale", "age_s": 2.2, "reason": "x"},
         "STALE, 2 s old, 10.0 FPS, 35 ms, infer 18 ms, 3 dropped, 61 C"),
        ({"state": "lost", "reason": "No frame.\nCheck it.", "next_try_s": 4.0},
         "LOST: No frame. Check it. (next try in 4 s)"),
        ({"state": "connecting"}, "CONNECTING"),
    ],
)  # fmt: skip
def test_line(values: dict[str, object], line: str, minute: LastMinute) -> None:
    """One line for a terminal; a state that isn't live stands first."""
    assert stats(minute, **values).as_line() == line


def test_summary(minute: LastMinute) -> None:
    """The end is said in counts; a fault that never happened isn't mentioned."""
    assert stats(minute).as_summary().splitlines() == [
        "100 frames shown in 10 s, 10.0 FPS; 3 dropped.",
        "Last minute: 10.0 FPS, from arrival to detections 35 ms, p99 35 ms.",
        "slim: 20.0 ms a frame (infer 18.0), enough for 50.0 FPS.",
    ]
    text = stats(minute, totals=Totals(shown=1, lost=2, failed=1)).as_summary()
    assert text.splitlines()[-1] == "source lost: 2; frames failed: 1."
