"""Which layers stay float in an int8 graph.

The head's last convolutions and everything after them always do (:func:`yolo_slim.quantization.graph.parts`). Of the
other convolutions, those with the largest layer errors do, as many as mAP needs: :func:`choose_float_layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yolo_slim.quantization.layer_errors import LayerError


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The cost of int8 with some layers in float."""

    float_layers: int
    """How many, those with the largest layer errors."""
    map50_95_drop: float


def choose_float_layers(
    layers: Sequence[LayerError], most: int, drop: Callable[[list[str]], float], budget: float
) -> tuple[list[str], list[Trial]]:
    """Keep 0, 1, 2, 4, ... layers in float until the drop is inside the budget; return their nodes and the trials.

    If even ``most`` layers in float aren't enough, that many stay float: mAP on few images is too noisy to say which
    failure is the better one.

    Args:
        layers: every layer's error.
        most: the largest number that may stay float.
        drop: from the names of float nodes to the mAP50-95 lost.
        budget: the drop that is good enough.
    """
    # Every trial costs a mAP, so the number doubles.
    counts = [0, *(2**k for k in range(most.bit_length()) if 2**k < most), most] if most else [0]
    trials: list[Trial] = []
    kept: list[str] = []
    for count in counts:
        kept = worst_layers(layers, count)
        trials.append(Trial(float_layers=len(kept), map50_95_drop=drop(kept)))
        if trials[-1].map50_95_drop <= budget:
            break
    return kept, trials


def worst_layers(layers: Sequence[LayerError], count: int) -> list[str]:
    """Node names of the layers with the largest errors, the largest first."""
    ranked = sorted(layers, key=lambda layer: (-layer.error, layer.node))
    return [layer.node for layer in ranked[:count]]
