"""Whether a loss could be seen at all: what control and data say about a verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from yolo_slim.verdict.result import Gate

CONTROL_GATE = "control_map50_95"
CLASSES_GATE = "unscored_classes"
LEAST_MAP50_95 = 0.05
"""A control below this finds so little that noise decides which network lost more."""
FAR = 0.15
"""A relative difference from the mAP of the training that is told: another split of the same data differs less
(hardhat: .588 on val, .553 on test, which is 6 %)."""


def control_gate(map50_95: float, largest_drop: float) -> Gate:
    """Judge whether a drop could be seen at all: a control below the allowed drop can't lose more than is allowed.

    Args:
        map50_95: the control's.
        largest_drop: the largest drop that the profile allows.
    """
    limit = max(LEAST_MAP50_95, largest_drop)
    # Not `<`: NaN must not pass.
    passed = map50_95 >= limit
    reason = "" if passed else f"the control finds too little ({map50_95:.4f}): a larger loss could not be seen"
    return Gate(
        name=CONTROL_GATE, rung=None, limit=limit, value=map50_95, unit="mAP50-95",
        status="pass" if passed else "unproven", reason=reason,
    )  # fmt: skip


def classes_gate(unlabelled: Mapping[int, str]) -> Gate:
    """Judge whether every class was compared: one without a label in the scored images may have lost everything.

    Args:
        unlabelled: id to name of the classes without one.
    """
    named = [f"{class_id} {name}" for class_id, name in sorted(unlabelled.items())]
    listed = ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")
    reason = f"the scored images have no label of class {listed}: it may have lost everything" if named else ""
    return Gate(
        name=CLASSES_GATE, rung=None, limit=0.0, value=float(len(named)), unit="classes",
        status="unproven" if named else "pass", reason=reason,
    )  # fmt: skip


def far_from_training(label: str, map50_95: float, trained: float | None, far: float = FAR) -> list[str]:
    """Say where a checkpoint scores far from what it records of its own training; nothing without a record.

    Args:
        label: what people call the checkpoint.
        map50_95: on the images of this data set.
        trained: what its training recorded.
        far: difference that is said, in units of the recorded one.
    """
    # Not `>`: NaN is far from everything.
    if trained is None or abs(map50_95 - trained) <= far * trained:
        return []
    return [
        f"{label} scores mAP50-95 {map50_95:.4f} here, but its training recorded {trained:.4f}: check that images, "
        "labels, class order and input side are those of the training"
    ]
