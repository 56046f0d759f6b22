"""Activation ranges: statistics of tensors over the calibration images, and the ranges that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.session import Blob, open_with_outputs
from yolo_slim.quantization.thresholds import INT8_MAX, METHODS, UNSIGNED_MAX, Floats, Histogram

LEAST_LIMIT = 1e-6
"""A channel that is always 0 still needs a scale."""

Ranges = Mapping[str, Floats]
"""Tensor to the largest value that int8 represents: (1,), or one per channel."""


class ChannelPeaks:
    """The largest absolute value of every channel of a tensor over many images."""

    def __init__(self) -> None:
        self.largest: Floats = np.zeros(1)

    def add(self, values: NDArray[np.float32]) -> None:
        """Include one image's values (1, channels, h, w)."""
        flat = values.reshape(values.shape[1], -1)
        self.largest = np.maximum(self.largest, np.maximum(flat.max(axis=1), -flat.min(axis=1)))


Statistics = dict[str, Histogram | ChannelPeaks]
"""Tensor to what its range follows from."""


class Observer(Protocol):
    """A statistic of one tensor, updated image by image."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Include one image's values."""


def observers(model: Any, layers: Collection[str]) -> Statistics:
    """Empty statistics for the inputs and outputs of the int8 layers.

    An input has one range. An output has one per channel, unless another int8 convolution reads it. The output of a
    layer with ReLU is what the ReLU writes: the int8 codes of the layer are already clipped at 0.
    """
    nodes, relus = graphs.nodes_named(model, layers), graphs.relus_of(model, layers)
    outputs = [relus.get(node.name, node).output[0] for node in nodes]
    written: Statistics = {name: ChannelPeaks() for name in outputs}
    # The input wins where a tensor is both: an integer convolution has one scale for its input.
    return written | {node.input[0]: Histogram() for node in nodes}


def ranges_of(statistics: Statistics, method: str, unsigned: Collection[str] = ()) -> dict[str, Floats]:
    """Ranges from statistics; ``method`` applies to tensors with one range, channels get their largest value.

    ``unsigned``: tensors whose codes all stand for values from 0 upwards.
    """
    found = {
        name: np.array([METHODS[method](statistic, UNSIGNED_MAX if name in unsigned else INT8_MAX)])
        if isinstance(statistic, Histogram)
        else statistic.largest
        for name, statistic in statistics.items()
    }
    return {name: np.maximum(limits, LEAST_LIMIT) for name, limits in found.items()}


def collect(model: Any, tensors: Mapping[str, Observer], blobs: Iterable[Blob], tick: Callable[[int], object]) -> None:
    """Run a float graph and add the values of inner tensors to their statistics.

    Args:
        model: ``ModelProto``; it isn't changed.
        tensors: name of a float tensor to its statistic.
        blobs: inputs (1, 3, h, w).
        tick: called with the number of inputs that are done.
    """
    session = open_with_outputs(model, tensors)
    name = session.get_inputs()[0].name
    for done, blob in enumerate(blobs, 1):
        for observer, values in zip(tensors.values(), session.run(list(tensors), {name: blob}), strict=True):
            observer.add(values)
        tick(done)
