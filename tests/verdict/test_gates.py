"""From figures to a verdict."""

from __future__ import annotations

from typing import Any

from yolo_slim.config.profile import Budget
from yolo_slim.verdict.gates import device_gates, rung_gates, verdict, winner, worst_class


def build(
    model: str, fps: float, map50_95: float, valid: bool = True, runtime: str = "ncnn", precision: str = "fp16"
) -> dict[str, Any]:
    """Return a measured build."""
    timing = {
        "fps": fps,
        "valid": valid,
        "invalid_reasons": [] if valid else ["throttled"],
        "peak_memory_mb": 90.0,
        "stages": {"total": {"p99_ms": 2000 / fps}},
    }
    return {
        "model": model,
        "runtime": runtime,
        "precision": precision,
        "map50_95": map50_95,
        "size_mb": 3.0,
        "bench": timing,
    }


BUDGET = Budget(min_fps=10, max_p99_ms=150, max_map50_95_drop=0.02, max_memory_mb=100)


def test_fastest_inside_the_budget_wins() -> None:
    """The fastest pruned build that keeps its accuracy wins; the control and a lossy one don't."""
    builds = [build("control", 99, 0.5), build("slim", 50, 0.4), build("slim", 20, 0.49), build("slim", 30, 0.485)]
    assert winner(builds, control=0.5, max_drop=0.02, on_device=True) is builds[3]
    assert winner(builds, control=0.5, max_drop=0.02, on_device=False) is builds[2]
    assert winner(builds[:2], control=0.5, max_drop=0.02, on_device=True) is None


def test_pass_fail_and_unproven() -> None:
    """All gates met on the device: pass; one missed: fail; the device absent or throttled: unproven, never pass."""
    good, slow = build("slim", 20, 0.49), build("slim", 5, 0.49)
    assert verdict(device_gates(BUDGET, good, 0.01, ""), proven=True) == "pass"
    gates = device_gates(BUDGET, slow, 0.01, "")
    assert verdict(gates, proven=True) == "fail"
    assert "off by 5" in next(gate.reason for gate in gates if gate.name == "min_fps")
    assert verdict(device_gates(BUDGET, good, 0.01, "no device"), proven=False) == "unproven"
    assert verdict(device_gates(BUDGET, slow, 0.03, "no device"), proven=False) == "fail"
    throttled = device_gates(BUDGET, build("slim", 20, 0.49, valid=False), 0.01, "")
    assert verdict(throttled, proven=True) == "unproven"
    assert verdict(device_gates(BUDGET, None, 0.3, ""), proven=True) == "fail"


def test_a_build_that_fails_its_own_rung_is_out() -> None:
    """The int8 build is fastest, but lost more than its budget: fp16 wins, and int8's gate spoils no verdict."""
    fp16 = build("slim", 20, 0.49, runtime="tensorrt")
    int8 = build("slim", 40, 0.485, runtime="tensorrt", precision="int8")
    assert winner([fp16, int8], control=0.5, max_drop=0.02, on_device=True) is int8
    assert winner([fp16, int8], control=0.5, max_drop=0.02, on_device=True, failed=["tensorrt-int8"]) is fp16
    ladder = [
        {"rung": "recovered", "budget": 0.01, "drop": 0.004},
        {"rung": "tensorrt-fp16", "budget": 0.003, "drop": 0.001},
        {"rung": "tensorrt-int8", "budget": 0.005, "drop": 0.006},
    ]
    assert {gate.status for gate in rung_gates(ladder, others={"tensorrt-int8"})} == {"pass"}
    assert [gate.name for gate in rung_gates(ladder) if gate.status == "fail"] == ["rung:tensorrt-int8"]


def test_worst_class_is_the_one_that_lost_most() -> None:
    """A class that collapsed is named though the mean hardly moved."""
    before = {"head": {"ap50_95": 0.5}, "helmet": {"ap50_95": 0.6}, "gone": {"ap50_95": 0.9}}
    after = {"head": {"ap50_95": 0.55}, "helmet": {"ap50_95": 0.5}}
    found = worst_class(before, after)
    assert found is not None
    assert found["name"] == "helmet"
    assert abs(found["drop"] - 0.1) < 1e-12
    assert worst_class({}, after) is None
