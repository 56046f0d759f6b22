"""The largest value of a tensor that int8 represents, chosen from a histogram of its values. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""Bins of a histogram over [-limit, limit]; the limit is a power of two."""
INT8_MAX = 127
"""A scale maps the largest value to this code; codes go from -128 to 127."""
UNSIGNED_MAX = 255
"""The same where no value is negative, and all 256 codes stand for values from 0 upwards."""
CANDIDATES = 100
"""Thresholds that the MSE and entropy searches try, evenly from 1/100 of the largest value to all of it."""

Floats = NDArray[np.float64]


class Histogram:
    """Values of one tensor over many images. When larger values arrive, the range doubles and pairs of bins merge."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit = 2.0**-10
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one image."""
        self.largest = max(self.largest, float(values.max()), -float(values.min()))
        while self.largest > self.limit:
            # Exact: at twice the limit every new bin is a pair of old ones.
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, BINS // 4)
            self.limit *= 2
        index = (values.ravel() * np.float32(BINS / 2 / self.limit) + np.float32(BINS / 2)).astype(np.int32)
        # The limit itself falls behind the last bin.
        self.counts += np.bincount(np.minimum(index, BINS - 1, out=index), minlength=BINS)

    def centres(self) -> Floats:
        """The middle of every bin, (BINS,)."""
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit)

    def folded(self) -> NDArray[np.int64]:
        """Counts by absolute value, (BINS / 2,)."""
        half = BINS // 2
        return np.asarray(self.counts[half:] + self.counts[:half][::-1])


def by_max(histogram: Histogram, _: int = INT8_MAX) -> float:
    """The largest absolute value: nothing is clipped."""
    return histogram.largest


def by_percentile(histogram: Histogram, _: int = INT8_MAX, share: float = 0.9999) -> float:
    """The threshold that leaves 1 of 10000 values outside."""
    cumulated = np.cumsum(histogram.folded())
    index = int(np.searchsorted(cumulated, share * cumulated[-1]))
    return min((index + 1) * histogram.limit / (BINS / 2), histogram.largest)


def by_mse(histogram: Histogram, highest: int = INT8_MAX) -> float:
    """The threshold with the least mean squared error of rounding and clipping, if it has the code ``highest``."""
    used = histogram.counts > 0
    values, counts = histogram.centres()[used], histogram.counts[used].astype(float)

    def error(threshold: float) -> float:
        step = max(threshold, 1e-12) / highest
        return float(counts @ (np.clip(np.rint(values / step), -highest - 1, highest) * step - values) ** 2)

    # From large to small, so that of equal errors the one that clips least is chosen.
    return min((histogram.largest * k / CANDIDATES for k in range(CANDIDATES, 0, -1)), key=error)


def by_entropy(histogram: Histogram, highest: int = INT8_MAX) -> float:
    """The threshold with the least Kullback-Leibler divergence between values and int8 codes.

    The method of TensorRT's entropy calibrator (Migacz, "8-bit inference with TensorRT", GTC 2017).
    """
    folded, width = histogram.folded().astype(float), histogram.limit / (BINS / 2)
    # As in that method, the smallest candidate has as many bins as there are codes.
    used = max(int(np.ceil(histogram.largest / width)), highest + 1)
    ends = sorted({max(highest + 1, round(used * k / CANDIDATES)) for k in range(1, CANDIDATES + 1)})
    return min(min(ends, key=lambda end: _divergence(folded, end, highest + 1)) * width, histogram.largest)


METHODS: Mapping[str, Callable[[Histogram, int], float]] = {
    "max": by_max,
    "percentile": by_percentile,
    "entropy": by_entropy,
    "mse": by_mse,
}
"""Values of ``quantize.ranges``; each takes the histogram and the largest code."""


def _divergence(folded: Floats, end: int, levels: int) -> float:
    """The divergence when the first ``end`` bins share so many codes and the rest is clipped."""
    reference = folded[:end].copy()
    seen = reference > 0
    codes = np.arange(len(reference)) * levels // end
    totals = np.bincount(codes, weights=reference, minlength=levels)
    members = np.bincount(codes, weights=seen, minlength=levels)
    candidate = np.where(seen, (totals / np.maximum(members, 1))[codes], 0.0)
    # Clipped values count in the reference alone: that is what makes a small threshold costly.
    reference[-1] += folded[end:].sum()
    p, q = _smoothed(reference), _smoothed(candidate)
    return float((p * np.log(p / q)).sum())


def _smoothed(counts: Floats, floor: float = 1e-7) -> Floats:
    """A distribution without zeros, whose logarithm exists."""
    shares = counts / max(counts.sum(), 1.0)
    return np.asarray((shares + floor) / (shares + floor).sum())
