"""What Prometheus, /health and systemd are told of a camera."""

from __future__ import annotations

import re

import pytest

from tests.helpers.shown_frames import CONTEXT, detections, shown
from yolo_slim.runtime.camera.outputs.health import health
from yolo_slim.runtime.camera.outputs.prometheus import Metrics, is_throttled
from yolo_slim.runtime.camera.outputs.record import Context

STATS = {
    "fps": 29.8,
    "source_fps": 30.0,
    "latency_ms": {"p50": 41.0, "p99": 62.5},
    "infer_ms": {"p50": 24.0},
    "dropped": 3,
    "queue_age_ms": 4.0,
    "age_s": 0.02,
    "state": "live",
    "reason": "",
    "celsius": 61.5,
    "throttled": False,
    "rss_mb": 120.0,
}
COUNTS = {"lines": {"door": {"in": 2, "out": 1}}, "zones": {"desk": {"inside": 1, "entered": 4, "longest_s": 2.0}}}
NAME, LABEL = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})(\{{{LABEL}(?:,{LABEL})*\}})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
COMMENT = re.compile(rf"# (?:HELP ({NAME}) .+|TYPE ({NAME}) (?:gauge|counter|summary))")


def problems(text: str) -> list[str]:
    """What ``promtool check metrics`` would say: lines of a wrong form, samples without a type, doubles, bad names."""
    found, types, samples = [] if text.endswith("\n") else ["no line break at the end"], set[str](), list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            match = COMMENT.fullmatch(line)
            found += [] if match else [f"comment: {line}"]
            types |= {match[2]} if match and match[2] else set()
            if " counter" in line and "_total counter" not in line:
                found.append(f"counter without _total: {line}")
            continue
        sample = SAMPLE.fullmatch(line)
        found += [] if sample else [f"sample: {line}"]
        if sample:
            samples.append(f"{sample[1]}{sample[2]}")
            found += [] if sample[1] in types else [f"no type: {line}"]
    return found + [f"twice: {sample}" for sample in set(samples) if samples.count(sample) > 1]


def metrics(*frames: list[int]) -> Metrics:
    """After some frames with boxes of these classes."""
    found = Metrics(CONTEXT)
    for class_ids in frames:
        found.shown(shown(detections([(1, 2, 3, 4)] * len(class_ids), class_ids=class_ids), 0.0))
    return found


def test_metrics_have_base_units_and_pass_the_check() -> None:
    """Seconds, bytes and totals, as Prometheus' naming rules want them."""
    text = metrics([0, 0], [0]).text(STATS, COUNTS, {"jsonl": 2})
    assert not problems(text)
    samples = set(text.splitlines())
    assert samples >= {
        "yolo_slim_camera_fps 29.8",
        'yolo_slim_camera_latency_seconds{quantile="0.5"} 0.041',
        'yolo_slim_camera_latency_seconds{quantile="0.99"} 0.0625',
        "yolo_slim_camera_queue_age_seconds 0.004",
        "yolo_slim_camera_frames_total 2",
        "yolo_slim_camera_frames_dropped_total 3",
        "yolo_slim_camera_age_seconds 0.02",
        "yolo_slim_camera_temperature_celsius 61.5",
        "yolo_slim_camera_throttled 0",
        "yolo_slim_camera_memory_bytes 120000000",
        'yolo_slim_camera_state{state="live"} 1',
        'yolo_slim_camera_state{state="lost"} 0',
        'yolo_slim_camera_objects{class="person"} 1',
        'yolo_slim_camera_line_crossings_total{line="door",direction="in"} 2',
        'yolo_slim_camera_zone_objects{zone="desk"} 1',
        'yolo_slim_camera_zone_entries_total{zone="desk"} 4',
        'yolo_slim_camera_output_lost_total{output="jsonl"} 2',
    }


def test_what_is_not_known_is_left_out() -> None:
    """A device without a thermometer has no temperature; 0 would be a lie."""
    unknown = {**STATS, "celsius": None, "fps": float("nan"), "latency_ms": None, "throttled": None, "state": None}
    text = metrics().text(unknown, {}, {})
    assert not problems(text)
    for name in ("celsius", "_fps ", "latency", "throttled", "state", "objects", "zone"):
        assert name not in text.replace("source_fps ", "")
    assert not problems(metrics().text({}, {}, {}))


def test_a_class_that_is_gone_becomes_zero() -> None:
    """Its series goes on."""
    assert 'objects{class="dog"} 0' in metrics([1], [0]).text(STATS, {}, {})


def test_names_of_people_are_escaped() -> None:
    """A class may contain quotes, backslashes and line breaks."""
    found = Metrics(Context(source="x", names={0: 'a"b\\c\nd'}))
    found.shown(shown(detections([(1, 2, 3, 4)]), 0.0))
    text = found.text(STATS, {}, {})
    assert not problems(text)
    assert r'objects{class="a\"b\\c\nd"} 1' in text


@pytest.mark.parametrize(
    "text",
    ["a 1", "# TYPE a gauge\na 1\na 1\n", "# TYPE a gauge\na{b=c} 1\n", "a nan\n", "# TYPE a counter\na 1\n", "b 1\n"],
)
def test_the_check_bites(text: str) -> None:
    """Negative control: what promtool refuses is found."""
    assert problems(text)


@pytest.mark.parametrize(
    ("value", "is_now"),
    [
        (None, None),
        (False, False),
        (True, True),
        (0, False),
        (0x50000, False),
        (0x50005, True),
        ([], False),
        (["frequency capped"], True),
    ],
)
def test_throttled_now_and_since_the_boot(value: object, is_now: bool | None) -> None:
    """A Raspberry Pi remembers what was; only what is now counts."""
    assert is_throttled(value) is is_now


@pytest.mark.parametrize(
    ("state", "age_s", "is_serving", "is_stuck"),
    [
        ("live", 0.1, True, False),
        ("live", 6.0, False, False),
        ("stale", 2.0, True, False),
        ("stale", 61.0, False, True),
        ("live", 61.0, False, True),
        ("lost", 600.0, False, False),
        ("lost", 0.5, False, False),
        ("connecting", None, False, False),
        ("paused", 600.0, True, False),
        ("ended", 600.0, True, False),
    ],
)
def test_health(state: str, age_s: float | None, is_serving: bool, is_stuck: bool) -> None:
    """Old frames aren't healthy; only a camera that does nothing about them hangs."""
    found = health({"state": state, "age_s": age_s, "reason": "unplugged"})
    assert (found.is_serving, found.is_stuck) == (is_serving, is_stuck)
    assert found.to_json()["reason"] == "unplugged"


def test_health_without_figures() -> None:
    """Before the first figures a camera is connecting."""
    found = health({})
    assert (found.state, found.is_serving, found.is_stuck) == ("connecting", False, False)
