"""From the start of a process to its first detection."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.helpers.staged import stage
from yolo_slim.runtime.cold_start import Stopwatch, process_age_ms


def stat(ticks: object) -> dict[str, str]:
    """Return a /proc/self/stat of a process with an awkward name that began at a tick since boot."""
    return {"proc/self/stat": f"77 (a b) c) R {' '.join(['1'] * 18)} {ticks} 0 0\n"}


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux counts from boot")
def test_age_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's start of the process, in ticks since boot, against the clock that counts from boot."""
    monkeypatch.setattr(time, "clock_gettime", lambda _: 100.0)
    stage(tmp_path, stat(98 * os.sysconf("SC_CLK_TCK")), monkeypatch)
    assert process_age_ms() == pytest.approx(2000.0)


@pytest.mark.parametrize("ticks", [0, 10**15])
def test_an_age_that_cannot_be(ticks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes say zero, or a moment that is still to come: nothing is known then."""
    stage(tmp_path, stat(ticks), monkeypatch)
    assert process_age_ms() is None


def test_parts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading in two steps and the first frame are timed, what lies between isn't; an unknown start counts as none."""
    stage(tmp_path, {}, monkeypatch)
    now = iter((1.0, 1.25, 10.0, 10.5, 50.0, 50.1))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    watch = Stopwatch()
    assert [watch.load(lambda: "bundle"), watch.load(lambda: "model")] == ["bundle", "model"]
    found = watch.first_frame(lambda image: image, "photo")
    assert (found.start_ms, found.load_ms) == (None, 750.0)
    assert found.first_frame_ms == pytest.approx(100.0)
    assert found.total_ms == pytest.approx(850.0)
