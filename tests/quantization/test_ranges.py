"""Thresholds and histograms, on values whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_slim.quantization.ranges import ChannelPeaks
from yolo_slim.quantization.thresholds import BINS, METHODS, Histogram


def filled(*arrays: np.ndarray) -> Histogram:
    """Return a histogram of arrays."""
    histogram = Histogram()
    for array in arrays:
        histogram.add(array.astype(np.float32))
    return histogram


def test_counts_survive_doubling() -> None:
    """Values that come after the range doubled are counted with those before, in the right bins."""
    small, large = np.full(10, -0.4), np.full(5, 900.0)
    histogram = filled(small, large)
    assert histogram.counts.sum() == 15
    assert histogram.limit == 1024
    centres = np.repeat(histogram.centres(), histogram.counts)
    assert np.abs(centres - np.sort(np.concatenate([small, large]))).max() <= 2 * histogram.limit / BINS
    assert histogram.largest == 900


def test_max_clips_nothing() -> None:
    """The max method returns the largest absolute value, of either sign."""
    assert METHODS["max"](filled(np.array([-3.0, 2.0]))) == 3


def test_percentile_leaves_one_of_ten_thousand() -> None:
    """A single outlier among 100000 values is outside, the rest is inside."""
    values = np.random.default_rng(0).uniform(-1, 1, 100000)
    found = METHODS["percentile"](filled(np.append(values, 8.0)))
    assert 0.99 < found < 1.01


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_outlier_is_clipped_and_a_flat_range_is_not(method: str) -> None:
    """One far outlier among many normal values is clipped; evenly spread values are hardly."""
    normal = np.random.default_rng(0).normal(0, 1, 200000)
    assert METHODS[method](filled(np.append(normal, 100.0))) < 80
    assert METHODS[method](filled(np.random.default_rng(0).uniform(-4, 4, 200000))) > 3


def test_mse_is_the_least_of_all() -> None:
    """No other threshold has a smaller squared error than the one found, beyond the grid's step."""
    values = np.random.default_rng(1).laplace(0, 1, 100000)
    histogram = filled(values)

    def error(threshold: float) -> float:
        step = threshold / 127
        return float(((np.clip(np.rint(values / step), -128, 127) * step - values) ** 2).mean())

    best = error(METHODS["mse"](histogram))
    assert best <= 1.05 * min(error(t) for t in np.linspace(1, histogram.largest, 50))
    assert best < error(histogram.largest)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_have_a_range(method: str) -> None:
    """A tensor that is always 0 gets a number, not an error or NaN."""
    assert np.isfinite(METHODS[method](filled(np.zeros(10))))


def test_channel_peaks() -> None:
    """Every channel keeps its own largest absolute value over the images."""
    peaks = ChannelPeaks()
    peaks.add(np.array([[[[1.0, -2.0]], [[0.5, 0.25]]]], np.float32))
    peaks.add(np.array([[[[1.5, 0.0]], [[-4.0, 0.25]]]], np.float32))
    assert peaks.largest.tolist() == [2.0, 4.0]
