"""From figures to a verdict."""

from __future__ import annotations

from typing import Any

from yolo_slim.config import Budget
from yolo_slim.evaluation.gates import device_gates, verdict, winner


def build(model: str, fps: float, map50_95: float, valid: bool = True) -> dict[str, Any]:
    """Return a measured build."""
    timing = {
        "fps": fps,
        "valid": valid,
        "invalid_reasons": [] if valid else ["throttled"],
        "peak_memory_mb": 90.0,
        "stages": {"total": {"p99_ms": 2000 / fps}},
    }
    return {"model": model, "map50_95": map50_95, "size_mb": 3.0, "bench": timing}


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
