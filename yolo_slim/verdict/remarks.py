"""What the reader of a result must know besides its figures. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.measuring.control_check import ControlCheck
from yolo_slim.measuring.measure import Measured
from yolo_slim.verdict.control import far_from_training
from yolo_slim.verdict.result import PRUNED, RECOVERED, Rung

INT8_FUSED_ON = "aarch64"
"""Where ONNX Runtime fuses the int8 graph; on other processors its speed is another one."""


def remarks(measured: Measured, ladder: Sequence[Rung], bad_layer: str | None) -> list[str]:
    """List builds that are out, accuracies of stand-ins, and speeds that mislead.

    Args:
        measured: what was measured.
        ladder: the same, judged.
        bad_layer: the layer of the int8 graph to look at first.
    """
    scores = {rung.rung: rung.map50_95 for rung in ladder}
    found = [
        note
        for rung in ladder
        for note in far_from_training(rung.label, rung.map50_95, measured.trained.get(rung.rung))
    ]
    found += lost_by_recovery(scores.get(PRUNED), scores.get(RECOVERED))
    found += [_why_out(rung, bad_layer, measured.names) for rung in ladder if rung.status == "fail" and rung.build]
    absent = sorted({build.key.build.runtime for build in measured.builds if not build.on_device})
    found += [
        f"accuracy of {runtime} builds is that of their graph in ONNX Runtime; the engine's own is unproven"
        for runtime in absent
    ]
    int8 = BuildName("onnxruntime", "int8")
    arches = {b.bench.machine.arch for b in measured.builds if b.bench and b.key.build == int8} - {INT8_FUSED_ON}
    return found + [
        f"ONNX Runtime doesn't fuse int8 on {arch}: the speed of {int8} there says nothing about an Arm device"
        for arch in arches
    ]


def lost_by_recovery(pruned: float | None, recovered: float | None) -> list[str]:
    """Say where the trained network scores below the cut that it was trained from (mAP50-95 of both rungs)."""
    if pruned is None or recovered is None or recovered >= pruned:
        return []
    fact = f"recovery lowered mAP50-95 from {pruned:.4f} to {recovered:.4f}"
    return [f"{fact}; train more epochs (EPOCHS, --epochs), or at a lower lr0"]


def contradicted_labels(check: ControlCheck | None) -> list[str]:
    """Say where the control contradicts the labels; None: it wasn't checked."""
    return [] if check is None else [f"the control contradicts labels of {check.split}: {one}" for one in check.doubts]


def exchanged_activation(control: Sequence[str], slim: Sequence[str]) -> list[str]:
    """Say where both networks compute different activations (names of both): the control keeps its own."""
    if control == slim:
        return []
    fact = f"the control computes {', '.join(control)}, the slim network {', '.join(slim)} (recover.activation)"
    return [f"{fact}; speed-up and mAP are the exchange's too"]


def not_built(skipped: Mapping[BuildKey, str]) -> list[str]:
    """Name the builds that weren't possible, with the reason."""
    return [f"{key} was not built: {reason}" for key, reason in skipped.items()]


def _why_out(rung: Rung, bad_layer: str | None, names: Mapping[int, str]) -> str:
    """Say why a build is out, with the class that lost most and, for int8, the layer to look at first."""
    text = f"{rung.rung} can't win: it lost {rung.drop:.4f} against {rung.against}, {rung.budget:.4f} allowed"
    if rung.worst_class:
        text += f"; most in class {names[rung.worst_class.class_id]} ({rung.worst_class.drop:+.4f})"
    if bad_layer and rung.build and rung.build.precision == "int8":
        text += f"; the first layer to look at is {bad_layer}"
    return text
