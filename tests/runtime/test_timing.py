from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.tiny_detector import scene
from yolo_slim.bundle import open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import MachineState, throttle_reasons
from yolo_slim.runtime import bench as timing
from yolo_slim.runtime.bench import STAGES, BenchResult, bench, summarize
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.sources import Skipped


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
    monkeypatch.setattr(timing, "read_state", lambda: next(states))
    result = run(tiny_bundle, max_celsius=80)
    assert not result.is_valid
    assert result.invalid_reasons == ("throttled during the run", "84.0 C after the run, above 80 C")
    assert len(result.samples_ms["total"]) == result.queries
