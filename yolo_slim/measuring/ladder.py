"""The accuracy ladder: mAP after every stage, each rung with the one that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.devices.base import Placed
from yolo_slim.measuring.accuracy import Accuracy
from yolo_slim.measuring.networks import THIS_MACHINE

LABELS = {
    "control": "PyTorch control",
    "pruned": "PyTorch pruned, not trained",
    "recovered": "PyTorch recovered",
    "onnx": "ONNX in ONNX Runtime",
}
"""Rung to its name for people, in the order of the ladder; a rung for every slim bundle follows."""


@dataclass(frozen=True, kw_only=True)
class ScoredRung:
    """One rung, not judged yet."""

    rung: str
    """Name, as gates and budgets use it."""
    label: str
    """The same for people."""
    against: str | None
    """The rung that it is compared with."""
    accuracy: Accuracy
    where: str
    """Which machine detected."""
    build: BuildName | None = None
    """Runtime and precision of a bundle's rung."""


def ladder(
    rungs: Mapping[str, Accuracy],
    bundles: Mapping[BuildKey, Accuracy],
    placed: Mapping[BuildKey, Placed],
    device_name: str,
) -> list[ScoredRung]:
    """Order the accuracies into a ladder.

    Args:
        rungs: accuracy of weights and graph.
        bundles: accuracy of every bundle; the control's have no rung.
        placed: the bundles that ran on the device; for the others their graph ran here.
        device_name: what people call the device.
    """
    found = [_rung_of_weights(rung, rungs) for rung in LABELS if rung in rungs]
    before = found[-1].rung
    for key, accuracy in bundles.items():
        if key.is_slim:
            on_device = key in placed
            found.append(
                ScoredRung(
                    rung=str(key.build),
                    build=key.build,
                    label=f"bundle {key.build}" if on_device else f"graph of {key.build} in ONNX Runtime",
                    against=before,
                    accuracy=accuracy,
                    where=device_name if on_device else THIS_MACHINE,
                )
            )
    return found


def _rung_of_weights(rung: str, rungs: Mapping[str, Accuracy]) -> ScoredRung:
    """Weights are compared with the control; the graph with the weights that it was exported from."""
    weights = [name for name in LABELS if name in rungs and name != "onnx"]
    against = {"control": None, "onnx": weights[-1]}.get(rung, "control")
    return ScoredRung(rung=rung, label=LABELS[rung], against=against, accuracy=rungs[rung], where=THIS_MACHINE)
