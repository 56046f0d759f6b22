"""Activation ranges: what tensors hold over the calibration images, and the largest value that int8 represents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""Bins of a histogram over [-limit, limit]; the limit is a power of two."""
LEVELS = 127
"""Symmetric int8 holds -127 to 127."""
CANDIDATES = 100
"""Thresholds that the MSE and entropy searches try, evenly from 1/100 of the largest value to all of it."""

Floats = NDArray[np.float64]


class Histogram:
    """Values of one tensor over many images; the range doubles, and pairs of bins merge, when larger values arrive."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit = 2.0**-10
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one image."""
        self.largest = max(self.largest, float(values.max()), -float(values.min()))
        while self.largest > self.limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, BINS // 4)
            self.limit *= 2
        index = (values.ravel() * np.float32(BINS / 2 / self.limit) + np.float32(BINS / 2)).astype(np.int32)
        self.counts += np.bincount(np.minimum(index, BINS - 1, out=index), minlength=BINS)

    def centres(self) -> Floats:
        """Return the middle of every bin, (BINS,)."""
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit)

    def folded(self) -> NDArray[np.int64]:
        """Return counts by absolute value, (BINS / 2,)."""
        half = BINS // 2
        return np.asarray(self.counts[half:] + self.counts[:half][::-1])


class ChannelPeaks:
    """The largest absolute value of every channel of a tensor over many images."""

    def __init__(self) -> None:
        self.largest: Floats = np.zeros(1)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one image's values (1, channels, h, w)."""
        flat = values.reshape(values.shape[1], -1)
        self.largest = np.maximum(self.largest, np.maximum(flat.max(axis=1), -flat.min(axis=1)))


class InputMeans:
    """The mean of every channel of a tensor over many images, before and after it becomes int8."""

    def __init__(self, limit: float) -> None:
        self._step = np.float32(limit / LEVELS)
        self._images = 0
        self.size_hw = (0, 0)
        self._sums: Floats = np.zeros((2, 1))

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one image's values (1, channels, h, w)."""
        flat = values.reshape(values.shape[1], -1)
        rounded = np.clip(np.rint(flat / self._step), -LEVELS - 1, LEVELS) * self._step
        self._sums = self._sums + np.stack([flat.mean(axis=1), rounded.mean(axis=1)])
        self._images += 1
        self.size_hw = (values.shape[2], values.shape[3])

    def means(self) -> Floats:
        """Return (2, channels): float, int8."""
        return np.asarray(self._sums / max(self._images, 1))


class Observer(Protocol):
    """What takes in a tensor's values, image by image."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one image's values."""


def by_max(histogram: Histogram) -> float:
    """Return the largest absolute value: nothing is clipped."""
    return histogram.largest


def by_percentile(histogram: Histogram, share: float = 0.9999) -> float:
    """Return the threshold that leaves 1 of 10000 values outside."""
    cumulated = np.cumsum(histogram.folded())
    index = int(np.searchsorted(cumulated, share * cumulated[-1]))
    return min((index + 1) * histogram.limit / (BINS / 2), histogram.largest)


def by_mse(histogram: Histogram) -> float:
    """Return the threshold with the least mean squared error of rounding and clipping."""
    used = histogram.counts > 0
    values, counts = histogram.centres()[used], histogram.counts[used].astype(float)

    def error(threshold: float) -> float:
        step = max(threshold, 1e-12) / LEVELS
        return float(counts @ (np.clip(np.rint(values / step), -LEVELS - 1, LEVELS) * step - values) ** 2)

    return min((histogram.largest * k / CANDIDATES for k in range(CANDIDATES, 0, -1)), key=error)


def by_entropy(histogram: Histogram) -> float:
    """Return the threshold with the least Kullback-Leibler divergence between values and int8 codes.

    The method of TensorRT's entropy calibrator (Migacz, "8-bit inference with TensorRT", GTC 2017).
    """
    folded, width = histogram.folded().astype(float), histogram.limit / (BINS / 2)
    whole = max(int(np.ceil(histogram.largest / width)), LEVELS + 1)
    ends = sorted({max(LEVELS + 1, round(whole * k / CANDIDATES)) for k in range(1, CANDIDATES + 1)})
    return min(min(ends, key=lambda end: _divergence(folded, end)) * width, histogram.largest)


METHODS: Mapping[str, Callable[[Histogram], float]] = {
    "max": by_max,
    "percentile": by_percentile,
    "entropy": by_entropy,
    "mse": by_mse,
}


def collect(
    model: Any,
    tensors: Mapping[str, Observer],
    blobs: Iterable[NDArray[np.float32]],
    tick: Callable[[int], object],
) -> None:
    """Fill what the named tensors of a float graph hold over the inputs.

    Args:
        model: ``ModelProto``, left as it is.
        tensors: name of a float tensor to what it is added to.
        blobs: inputs (1, 3, h, w).
        tick: called with the number of inputs that are done.
    """
    session = _session_with_outputs(model, tensors)
    name = session.get_inputs()[0].name
    for done, blob in enumerate(blobs, 1):
        for kept, values in zip(tensors.values(), session.run(list(tensors), {name: blob}), strict=True):
            kept.add(values)
        tick(done)


def open_session(model: Any) -> Any:
    """Return an ONNX Runtime CPU session of a ``ModelProto``; on x86 int8 isn't fused, so it computes as written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _session_with_outputs(model: Any, tensors: Iterable[str]) -> Any:
    """Return a session of a graph that also gives inner tensors."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    there = {item.name for item in copied.graph.output}
    copied.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors if tensor not in there)
    return open_session(copied)


def _divergence(folded: Floats, end: int) -> float:
    """Return the divergence when the first ``end`` bins share the int8 codes and the rest is clipped."""
    reference = folded[:end].copy()
    seen = reference > 0
    codes = np.arange(len(reference)) * (LEVELS + 1) // end
    totals = np.bincount(codes, weights=reference, minlength=LEVELS + 1)
    members = np.bincount(codes, weights=seen, minlength=LEVELS + 1)
    candidate = np.where(seen, (totals / np.maximum(members, 1))[codes], 0.0)
    reference[-1] += folded[end:].sum()
    p, q = _smoothed(reference), _smoothed(candidate)
    return float((p * np.log(p / q)).sum())


def _smoothed(counts: Floats, floor: float = 1e-7) -> Floats:
    """Return a distribution without zeros."""
    shares = counts / max(counts.sum(), 1.0)
    return np.asarray((shares + floor) / (shares + floor).sum())
