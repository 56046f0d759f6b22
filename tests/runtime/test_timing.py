from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.tiny_detector import scene
from yolo_slim.bundle import open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import MachineState, throttle_reasons
from yolo_slim.runtime import bench as timing
from yolo_slim.runtime.bench import STAGES, BenchResult, bench, spread, summarize
from yolo_slim.runtime.bench_text import as_text
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.readings import Range
from yolo_slim.runtime.sources import Skipped
from yolo_slim.runtime.sustained import sustain


def run(bundle: Path, **options: float) -> BenchResult:
    """Time the bundle briefly."""
    with Detector(bundle) as detector:
        return bench(detector, [scene(), scene(64, 96)], warmup=1, **{"min_seconds": 0.01, "min_queries": 5, **options})


def state(throttled: int | None = None, celsius: float | None = None) -> MachineState:
    """Return a state that knows nothing else."""
    return MachineState(governors=(), cpu_mhz=(), celsius=celsius, throttled=throttled)


def test_every_sample_is_kept(tiny_bundle: Path) -> None:
    """Each stage has one sample a query, stages add up to the total, and statistics are those of all samples."""
    result = run(tiny_bundle)
    assert result.queries >= 5
    assert {stage: len(values) for stage, values in result.samples_ms.items()} == dict.fromkeys(STAGES, result.queries)
    parts = np.sum([result.samples_ms[stage] for stage in ("pre", "infer", "post")], axis=0)
    np.testing.assert_allclose(parts, result.samples_ms["total"], atol=1e-6)
    assert result.stages["total"] == summarize(result.samples_ms["total"])
    assert result.fps == pytest.approx(1000 / np.median(result.samples_ms["total"]))


def test_both_minima_count(tiny_bundle: Path) -> None:
    """A run lasts for both the least number of queries and the least time."""
    assert run(tiny_bundle, min_queries=40, min_seconds=0.001).queries == 40
    long = run(tiny_bundle, min_queries=1, min_seconds=0.2)
    assert long.seconds >= 0.2
    assert long.queries > 1


@pytest.mark.usefixtures("unloaded")
def test_result_is_json(tiny_bundle: Path) -> None:
    """The result says what ran where, as JSON."""
    value = json.loads(json.dumps(run(tiny_bundle).to_json()))
    assert value["valid"] is True
    assert value["load"]["threads"] == value["runtime"]["threads"]
    assert value["runtime"]["provider"] == "CPUExecutionProvider"
    assert value["bundle"]["name"] == "tiny"
    assert value["machine"]["cores"] >= 1


def test_few_large_images_are_enough(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images count in the memory that a profile limits, so they stop at a size, but never before the first."""
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), scene(64, 96))
    bundle = open_bundle(tiny_bundle)
    for most, count in ((1, 1), (2 * 64 * 96 * 3, 2), (2**20, 3)):
        monkeypatch.setattr(timing, "MAX_IMAGE_BYTES", most)
        assert len(timing.bench_images(bundle, tmp_path, Skipped())) == count


def test_nothing_to_time(tiny_bundle: Path) -> None:
    """Timing without an image is an error."""
    with Detector(tiny_bundle) as detector, pytest.raises(SlimError, match="Nothing to time"):
        bench(detector, [])


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (None, None, []),
        (0, 0, []),
        (0x50000, 0x50000, []),
        (0, 0x40000, ["throttled during the run"]),
        (0x50005, 0x50005, 4),
        (0, 0x80008, 2),
    ],
    ids=["not a Pi", "cool", "throttled long ago", "throttled in between", "throttled all along", "hot at the end"],
)
def test_throttling(before: int | None, after: int | None, reasons: list[str] | int) -> None:
    """A Raspberry Pi's throttling bits are read one by one; what happened before the run doesn't count."""
    found = throttle_reasons(state(before), state(after))
    assert (len(found) if isinstance(reasons, int) else found) == reasons


@pytest.mark.usefixtures("unloaded")
def test_throttled_run_is_invalid(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run during which the machine throttled doesn't count, and keeps its samples."""
    states = iter([state(0, 50.0), state(0x40000, 84.0)])
    monkeypatch.setattr("yolo_slim.runtime.readings.read_state", lambda: next(states))
    monkeypatch.setattr("yolo_slim.runtime.readings.EVERY_S", math.inf)
    result = run(tiny_bundle, max_celsius=80)
    assert not result.is_valid
    assert result.invalid_reasons == ("throttled during the run", "84.0 C after the run, above 80 C")
    assert len(result.samples_ms["total"]) == result.queries


@pytest.mark.usefixtures("unloaded")
def test_heat_in_between_counts(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that was too hot between two cool ends is found by the readings in between."""
    states = chain([state(0, 50.0), state(0, 84.0)], repeat(state(0, 60.0)))
    monkeypatch.setattr("yolo_slim.runtime.readings.read_state", lambda: next(states))
    monkeypatch.setattr("yolo_slim.runtime.readings.EVERY_S", 0.0)
    result = run(tiny_bundle, max_celsius=80)
    assert result.invalid_reasons == ("84.0 C during the run, above 80 C",)
    assert result.sensors.celsius == Range(lowest=50.0, highest=84.0)


def test_spread_is_that_of_tenths() -> None:
    """The medians of ten parts in order say how steady a run was; one slow frame in each doesn't move them."""
    steady = [*[10.0] * 9, 90.0] * 10
    assert spread(steady) == Range(lowest=10.0, highest=10.0)
    assert spread([10.0] * 50 + [12.0] * 50) == Range(lowest=10.0, highest=12.0)
    assert spread([7.0]) == Range(lowest=7.0, highest=7.0)


def test_two_runs_agree_within_their_spread() -> None:
    """Two halves of one steady stream of frames have medians inside each other's spread; a slower stream hasn't."""
    rng = np.random.default_rng(0)
    first, second, slower = (rng.normal(center, 1.0, 200).tolist() for center in (20.0, 20.0, 24.0))
    for one, other in ((first, second), (second, first)):
        assert spread(one).lowest <= np.median(other) <= spread(one).highest
    assert np.median(slower) > spread(first).highest


def test_a_sustained_run_that_was_disturbed_spoils_the_timing(tiny_bundle: Path) -> None:
    """One mechanism judges both: the reasons are in the timing's, and the timing is repeated, marked or refused."""
    result = run(tiny_bundle)
    with Detector(tiny_bundle) as detector:
        found = sustain(detector, [scene()], 0.05)
    quiet, busy = (replace(found, invalid_reasons=reasons) for reasons in ((), ("other processes used 1 core",)))
    assert result.with_sustained(quiet).invalid_reasons == result.invalid_reasons
    spoiled = result.with_sustained(busy)
    assert spoiled.invalid_reasons[-1] == "in the sustained run: other processes used 1 core"
    assert spoiled.is_disturbed
    assert "in the last" in as_text(spoiled)
