"""Timings in rounds: nothing is lost when they are put together, and a slow minute doesn't change a ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yolo_slim.measuring.rounds import merged, speedups

STAGES = ("pre", "infer", "post", "total")


def one_round(milliseconds: float, reasons: tuple[str, ...] = (), memory: float | None = 100.0) -> dict[str, Any]:
    """Return a round of ten frames of constant latency."""
    samples = {stage: [milliseconds] * 10 for stage in STAGES}
    return {
        "samples_ms": samples,
        "stages": {stage: {"p50_ms": milliseconds} for stage in STAGES},
        "queries": 10,
        "seconds": milliseconds / 100,
        "peak_memory_mb": memory,
        "invalid_reasons": list(reasons),
        "valid": not reasons,
    }


def build(model: str, rounds: list[float], precision: str = "fp32") -> dict[str, Any]:
    """Return a timed build."""
    bench = merged([one_round(ms) for ms in rounds])
    return {"model": model, "runtime": "onnxruntime", "precision": precision, "bench": bench}


def test_merged_keeps_every_sample() -> None:
    """All frames of all rounds count; statistics are over all of them."""
    whole = merged([one_round(10.0), one_round(20.0), one_round(60.0, memory=140.0)])
    assert whole["samples_ms"]["total"] == [10.0] * 10 + [20.0] * 10 + [60.0] * 10
    assert whole["stages"]["total"]["p50_ms"] == 20.0
    assert whole["fps"] == 50.0
    assert (whole["queries"], whole["peak_memory_mb"], whole["valid"]) == (30, 140.0, True)
    assert whole["round_p50_ms"] == [10.0, 20.0, 60.0]
    assert whole["round_network_p50_ms"] == [20.0, 40.0, 120.0]


def test_one_invalid_round_spoils_the_timing() -> None:
    """A round that was throttled can't hide behind the others, and each reason is named once."""
    whole = merged([one_round(10.0), one_round(10.0, ("throttled",)), one_round(10.0, ("throttled",))])
    assert not whole["valid"]
    assert whole["invalid_reasons"] == ["throttled"]


def test_speedup_ignores_a_machine_that_slows_down() -> None:
    """The ratio is taken round by round: a machine three times slower in two rounds changes nothing."""
    control, slim = build("control", [20.0, 60.0, 60.0]), build("slim", [10.0, 30.0, 30.0])
    row = speedups([control, slim])[0]
    assert (row["ratio"], row["lowest"], row["highest"], row["rounds"]) == (2.0, 2.0, 2.0, 3)
    naive = np.median(control["bench"]["samples_ms"]["total"]) / np.median([10.0, 10.0, 10.0])
    assert naive == pytest.approx(6.0)


def test_no_speedup_without_a_timed_control() -> None:
    """A slim build is only compared with a control of its own runtime and precision."""
    assert speedups([build("control", [10.0], "fp16"), build("slim", [5.0], "fp32")]) == []
    untimed = {**build("control", [10.0]), "bench": None}
    assert speedups([untimed, build("slim", [5.0])]) == []
