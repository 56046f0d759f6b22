"""Biases that compensate the mean errors of int8.

Rounded weights and clipped inputs shift the means of output channels (Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", 2019). A different bias shifts them back and costs nothing at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.ranges import LEAST_LIMIT, Ranges
from yolo_slim.quantization.thresholds import INT8_MAX, UNSIGNED_MAX, Floats


class InputMeans:
    """The mean of every channel of a tensor over many images, in float and in int8."""

    def __init__(self, limit: float, highest: int = INT8_MAX) -> None:
        self._highest = highest
        self._step = np.float32(limit / highest)
        self._images = 0
        self.size_hw = (0, 0)
        self._sums: Floats = np.zeros((2, 1))

    def add(self, values: NDArray[np.float32]) -> None:
        """Include one image's values (1, channels, h, w)."""
        flat = values.reshape(values.shape[1], -1)
        rounded = np.clip(np.rint(flat / self._step), -self._highest - 1, self._highest) * self._step
        self._sums = self._sums + np.stack([flat.mean(axis=1), rounded.mean(axis=1)])
        self._images += 1
        # Equal for all images, because the graph has a fixed input size.
        self.size_hw = (values.shape[2], values.shape[3])

    def means(self) -> Floats:
        """(2, channels): float, int8."""
        return np.asarray(self._sums / max(self._images, 1))


def input_means(
    model: Any, layers: Collection[str], ranges: Ranges, unsigned: Collection[str] = ()
) -> dict[str, InputMeans]:
    """Empty statistics for the inputs of the layers, which :func:`bias_shifts` needs filled.

    ``unsigned`` as in :func:`yolo_slim.quantization.ranges.ranges_of`.
    """
    read = dict.fromkeys(node.input[0] for node in graphs.nodes_named(model, layers))
    return {name: InputMeans(float(ranges[name][0]), UNSIGNED_MAX if name in unsigned else INT8_MAX) for name in read}


def bias_shifts(model: Any, layers: Collection[str], means: Mapping[str, InputMeans]) -> dict[str, Floats]:
    """Layer to what its bias must gain so that int8 keeps the means of its output, (channels,).

    Layers without a bias are left out.
    """
    stored = graphs.initializers(model)
    found = {}
    for node in graphs.nodes_named(model, layers):
        if len(node.input) < 3:
            continue
        shift = _shift(node, graphs.array_of(stored[node.input[1]]).astype(np.float64), means[node.input[0]])
        if shift is not None:
            found[node.name] = shift
    return found


def _shift(node: Any, weight: Floats, means: InputMeans) -> Floats | None:
    """What one layer's bias must gain; None for a grouped convolution that isn't depthwise."""
    # A channel of zeros has no step; any other than 0 does.
    step = np.maximum(np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / INT8_MAX, LEAST_LIMIT**2)
    # Taps on padding read 0 and shift nothing, so the border lowers a tap's share.
    inside = _inside_share(node, means.size_hw, (weight.shape[2], weight.shape[3]))
    exact, rounded = (weight * inside).sum(axis=(2, 3)), (np.rint(weight / step) * step * inside).sum(axis=(2, 3))
    before, after = means.means()
    if weight.shape[1] == len(before):
        return np.asarray(exact @ before - rounded @ after)
    if weight.shape[1] == 1:  # depthwise
        return np.asarray(exact[:, 0] * before - rounded[:, 0] * after)
    return None


def _inside_share(node: Any, size_hw: tuple[int, int], kernel_hw: tuple[int, int]) -> Floats:
    """How often each tap of a kernel reads its input and not padding, (kernel height, width)."""
    settings = {item.name: list(item.ints) for item in node.attribute}
    strides, pads = settings.get("strides", [1, 1]), settings.get("pads", [0, 0, 0, 0])
    shares = []
    for axis in range(2):
        size, kernel = size_hw[axis], kernel_hw[axis]
        starts = np.arange(-pads[axis], size + pads[axis + 2] - kernel + 1, strides[axis])[:, None]
        taps = starts + np.arange(kernel)
        shares.append(((taps >= 0) & (taps < size)).mean(axis=0))
    return np.outer(*shares)
