"""A control that finds nothing can't carry a verdict, and one far from its own training is told."""

from __future__ import annotations

import math

import pytest

from yolo_slim.verdict.control import classes_gate, control_gate, far_from_training
from yolo_slim.verdict.gates import verdict


@pytest.mark.parametrize(
    ("map50_95", "largest_drop", "status"),
    [
        (0.5, 0.02, "pass"),
        (0.05, 0.02, "pass"),
        (0.049, 0.02, "unproven"),
        (0.0, 0.02, "unproven"),
        (math.nan, 0.02, "unproven"),
        # It can't lose .4, so a gate that allows .4 can't fail.
        (0.3, 0.4, "unproven"),
    ],
)
def test_control_gate(map50_95: float, largest_drop: float, status: str) -> None:
    """The verdict passes only where a larger loss than allowed could have been seen."""
    gate = control_gate(map50_95, largest_drop)
    assert gate.status == status
    assert bool(gate.reason) == (status != "pass")
    assert verdict([gate], proven=True).status == status


def test_far_from_training() -> None:
    """A score far below or above the training's is told, with both; one near it, or without a record, isn't."""
    (note,) = far_from_training("PyTorch control", 0.32, 0.588)
    assert "0.3200 here, but its training recorded 0.5880" in note
    assert far_from_training("PyTorch control", 0.9, 0.588)
    assert far_from_training("PyTorch control", math.nan, 0.588)
    assert far_from_training("PyTorch control", 0.553, 0.588) == []
    assert far_from_training("PyTorch control", 0.1, None) == []


def test_classes_gate() -> None:
    """A class that no scored image has is no pass, and is named."""
    gate = classes_gate({7: "lamp", 3: "vest"})
    assert (gate.status, verdict([gate], proven=True).status) == ("unproven", "unproven")
    assert "class 3 vest, 7 lamp:" in gate.reason
    assert classes_gate({}).status == "pass"
