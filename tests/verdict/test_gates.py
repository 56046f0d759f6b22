"""From figures to a verdict."""

from __future__ import annotations

from tests.helpers.results import changed, make_build, make_rung
from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import Budget, RungBudgets
from yolo_slim.verdict.gates import device_gates, rung_budget, rung_gates, verdict, winner, worst_class
from yolo_slim.verdict.result import Build, ClassAccuracy

BUDGET = Budget(min_fps=10, max_p99_ms=150, max_map50_95_drop=0.02, max_memory_mb=100)


def build(name: str, fps: float, map50_95: float, *, valid: bool = True, model: str = "slim") -> Build:
    """Return a measured build of 90 MB whose 99th percentile is twice its median latency."""
    found = make_build(model, name, map50_95, invalid_reasons=() if valid else ("throttled",))  # type: ignore[arg-type]
    assert found.bench is not None
    total = changed(found.bench.stages.total, p99_ms=2000 / fps)
    stages = changed(found.bench.stages, total=total)
    return changed(found, bench=changed(found.bench, fps=fps, stages=stages, peak_memory_mb=90.0))  # type: ignore[no-any-return]


def test_fastest_inside_the_budget_wins() -> None:
    """The fastest pruned build that keeps its accuracy wins; the control and a lossy one don't."""
    builds = [
        build("ncnn-fp16", 99, 0.5, model="control"),
        build("onnxruntime-int8", 50, 0.4),
        build("onnxruntime-fp32", 20, 0.49),
        build("ncnn-fp16", 30, 0.485),
    ]
    assert winner(builds, control=0.5, max_drop=0.02, on_target=True) == builds[3].key
    assert winner(builds, control=0.5, max_drop=0.02, on_target=False) == builds[2].key
    assert winner(builds[:2], control=0.5, max_drop=0.02, on_target=True) is None


def test_a_build_without_accuracy_does_not_win() -> None:
    """What wasn't scored has no known drop."""
    unknown = changed(build("ncnn-fp16", 99, 0.5), map50_95=None)
    assert winner([unknown], control=0.5, max_drop=0.02, on_target=True) is None


def test_pass_fail_and_unproven() -> None:
    """All gates met on the device: pass; one missed: fail; the device absent or throttled: unproven, never pass."""
    good, slow = build("ncnn-fp16", 20, 0.49), build("ncnn-fp16", 5, 0.49)
    assert verdict(device_gates(BUDGET, good, 0.01, ""), proven=True).status == "pass"
    gates = device_gates(BUDGET, slow, 0.01, "")
    assert verdict(gates, proven=True).status == "fail"
    assert "off by 5" in next(gate.reason for gate in gates if gate.name == "min_fps")
    assert verdict(device_gates(BUDGET, good, 0.01, "no device"), proven=False).status == "unproven"
    assert verdict(device_gates(BUDGET, slow, 0.03, "no device"), proven=False).status == "fail"
    throttled = device_gates(BUDGET, build("ncnn-fp16", 20, 0.49, valid=False), 0.01, "")
    assert verdict(throttled, proven=True).status == "unproven"
    assert verdict(device_gates(BUDGET, None, 0.3, ""), proven=True).status == "fail"


def test_a_build_that_fails_its_own_rung_is_out() -> None:
    """The int8 build is fastest, but lost more than its budget: fp16 wins, and int8's gate spoils no verdict."""
    fp16, int8 = build("tensorrt-fp16", 20, 0.49), build("tensorrt-int8", 40, 0.485)
    out = BuildName("tensorrt", "int8")
    assert winner([fp16, int8], control=0.5, max_drop=0.02, on_target=True) == int8.key
    assert winner([fp16, int8], control=0.5, max_drop=0.02, on_target=True, failed=[out]) == fp16.key
    ladder = [
        make_rung("recovered", "", 0.5, "control", 0.004),
        make_rung("tensorrt-fp16", "", 0.5, "onnx", 0.001),
        make_rung("tensorrt-int8", "", 0.5, "onnx", 0.006),
    ]
    assert {gate.status for gate in rung_gates(ladder, others={out})} == {"pass"}
    assert [gate.name for gate in rung_gates(ladder) if gate.status == "fail"] == ["rung:tensorrt-int8"]


def test_budget_of_a_rung() -> None:
    """Weights and graph have a budget by their name, bundles by their precision; other rungs have none."""
    budgets = RungBudgets(recovered=0.1, int8=0.2)
    assert rung_budget("recovered", None, budgets) == 0.1
    assert rung_budget("ncnn-int8", BuildName("ncnn", "int8"), budgets) == 0.2
    assert rung_budget("pruned", None, budgets) is None


def test_worst_class_is_the_one_that_lost_most() -> None:
    """A class that collapsed is named though the mean hardly moved."""
    before = {key: ClassAccuracy(ap50_95=ap, ap50=ap) for key, ap in {0: 0.5, 1: 0.6, 2: 0.9}.items()}
    after = {key: ClassAccuracy(ap50_95=ap, ap50=ap) for key, ap in {0: 0.55, 1: 0.5}.items()}
    found = worst_class(before, after)
    assert found is not None
    assert found.class_id == 1
    assert abs(found.drop - 0.1) < 1e-12
    assert worst_class({}, after) is None
