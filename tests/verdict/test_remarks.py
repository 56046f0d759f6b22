"""What a result says besides its figures."""

from __future__ import annotations

from yolo_slim.measuring.control_check import ControlCheck
from yolo_slim.verdict.remarks import contradicted_labels, exchanged_activation, lost_by_recovery


def test_a_recovery_that_cost_map_is_said() -> None:
    """Too few epochs leave less than the cut alone had; one that gained is silent, and so is a ladder without one."""
    (note,) = lost_by_recovery(pruned=0.47, recovered=0.44)
    assert "from 0.4700 to 0.4400" in note
    for pruned, recovered in ((0.47, 0.47), (0.47, None), (None, 0.44)):
        assert not lost_by_recovery(pruned, recovered)


def test_contradicted_labels_are_said() -> None:
    """Every contradiction is a note of its own; without one, and without a check, there is none."""
    check = ControlCheck(split="test", images=48, map50_95=0.5, ultralytics_map50_95=0.5, trained_map50_95=None)
    doubted = check.model_copy(update={"doubts": ("labels may be missing", "classes may be swapped")})
    assert contradicted_labels(doubted) == [
        "the control contradicts labels of test: labels may be missing",
        "the control contradicts labels of test: classes may be swapped",
    ]
    assert contradicted_labels(check) == contradicted_labels(None) == []


def test_another_activation_is_said() -> None:
    """Where recovery exchanged it, speed-up and mAP aren't those of the cut alone; equal networks are silent."""
    (note,) = exchanged_activation(["SiLU"], ["ReLU"])
    assert note.startswith("the control computes SiLU, the slim network ReLU (recover.activation)")
    assert exchanged_activation(["ReLU", "SiLU"], ["ReLU", "SiLU"]) == []
