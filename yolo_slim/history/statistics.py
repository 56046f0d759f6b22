"""Whether two measurements differ beyond their noise. Pure functions.

Speed: the rounds' ratios of latencies are tested by Wilcoxon's signed-rank test against a smallest effect. Accuracy:
the difference of two mAPs is tested by a bootstrap that resamples images, the same ones for both. Both give a p value
for worse and one for better; a night's p values are judged together by Holm's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo_slim.history.rows import Answer, Compared
from yolo_slim.measuring.matches import Matches

CONFIDENCE = 0.95
"""Of the intervals that are shown."""
SURELY_SAME = 0.01
"""Probability that a change of just the tolerance is called ``same``."""
MAD_TO_SIGMA = 1.4826
"""From a median absolute deviation to the standard deviation of normal values."""
FEWEST_NIGHTS, SIGMAS = 3, 4.0
"""Earlier nights that tell how much a device varies, and how far from their median is a change."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a quantity counts as changed."""

    smallest: float
    """A smaller change is none."""
    tolerance: float
    """``same`` means: surely within this."""
    looks: int = 1
    """How often the answer is looked for while measuring; the p values are corrected for it (Bonferroni)."""
    resamples: int = 1000
    """Random choices of the images."""


def compare_speed(reference_ms: Sequence[float], candidate_ms: Sequence[float], rule: Rule) -> Compared:
    """Compare the median latencies of the same rounds.

    Args:
        reference_ms: of the reference, (rounds,).
        candidate_ms: of tonight's bundle, (rounds,).
        rule: effects are fractions of the reference's latency.
    """
    logs = np.log(np.divide(candidate_ms, reference_ms))
    ((worse, better, too_slow, too_fast),) = speed_p_values(logs.reshape(1, -1), rule)
    lowest, highest = np.expm1(_interval_of_median(logs))
    return Compared(
        answer="same" if max(too_slow, too_fast) <= SURELY_SAME else "unknown",
        change=float(np.expm1(_pseudo_median(logs))),
        lowest=float(lowest),
        highest=float(highest),
        p_worse=float(worse),
        p_better=float(better),
        samples=len(logs),
    )


def speed_p_values(logs: NDArray[np.float64], rule: Rule) -> NDArray[np.float64]:
    """P values of many cells at once.

    Args:
        logs: logarithms of the rounds' ratios, (cells, rounds).
        rule: effects are fractions of the reference's latency.

    Returns:
        (cells, 4), corrected for the looks: against "not slower by more than the smallest effect" and "not faster";
        against "slower by the tolerance or more" and "faster".
    """
    from scipy.stats import wilcoxon

    limits = np.log1p([rule.smallest, -rule.smallest, rule.tolerance, -rule.tolerance])
    # Turned so that each question is whether the values are above zero.
    moved = np.array([1, -1, -1, 1])[:, None] * (logs[:, None, :] - limits[:, None])
    # Rounded to what a clock can tell: equal rounds are ties, not noise of the arithmetic.
    found = wilcoxon(np.round(moved, 9), alternative="greater", axis=-1).pvalue
    # Rounds that all lie on a limit have no p value, and show nothing.
    p_values: NDArray[np.float64] = np.minimum(1.0, rule.looks * np.nan_to_num(found, nan=1.0))
    return p_values


def compare_accuracy(reference: Matches, candidate: Matches, rule: Rule, *, seed: int = 0) -> Compared:
    """Compare mAP50-95 on the same images.

    The standard error is the bootstrap's; the tails are those of Student's t, because few images give few facts.

    Args:
        reference: of the baseline.
        candidate: of tonight.
        rule: effects are differences of mAP50-95.
        seed: of the random choices.
    """
    from scipy.stats import t

    change = candidate.map50_95() - reference.map50_95()
    error = float(np.std(resampled_changes(reference, candidate, rule.resamples, seed), ddof=1))
    degrees = candidate.images - 1

    def p_below(limit: float) -> float:
        """Probability of a change as low as this one where the true one is ``limit``."""
        if error == 0 or degrees < 1:
            return 0.0 if change < limit else 1.0
        return float(t.cdf((change - limit) / error, degrees))

    width = error * float(t.ppf((1 + CONFIDENCE) / 2, max(degrees, 1)))
    sure = max(p_below(rule.tolerance), 1 - p_below(-rule.tolerance)) <= SURELY_SAME
    return Compared(
        answer="same" if sure else "unknown",
        change=change,
        lowest=change - width,
        highest=change + width,
        p_worse=p_below(-rule.smallest),
        p_better=1 - p_below(rule.smallest),
        samples=candidate.images,
    )


def resampled_changes(reference: Matches, candidate: Matches, resamples: int, seed: int) -> NDArray[np.float64]:
    """Difference of mAP50-95 for random choices of the images, with replacement, (resamples,)."""
    rng, images = np.random.default_rng(seed), candidate.images
    # Equal detections differ on no choice of images.
    if equal(reference, candidate):
        return np.zeros(resamples)
    chosen = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.array([candidate.map50_95(weights) - reference.map50_95(weights) for weights in chosen])


def equal(one: Matches, other: Matches) -> bool:
    """Whether two sets of detections score alike on every choice of images."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("image", "scores", "class_ids", "correct", "label_image", "label_class")
    )


def holm(p_values: Sequence[float], error: float) -> list[bool]:
    """Which hypotheses are rejected so that any false rejection has at most this probability (Holm, 1979)."""
    rejected, count = [False] * len(p_values), len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] > error / (count - rank):
            break
        rejected[index] = True
    return rejected


def answers(found: Sequence[Compared], error: float) -> list[Answer]:
    """The answers of a night's comparisons, judged together."""
    worse = holm([one.p_worse for one in found], error)
    better = holm([one.p_better for one in found], error)
    return [
        "worse" if is_worse else "better" if is_better else one.answer
        for one, is_worse, is_better in zip(found, worse, better, strict=True)
    ]


def is_decided(found: Compared, error: float, comparisons: int) -> bool:
    """Whether further rounds can't change an answer: it holds whatever the night's other comparisons are."""
    return found.answer == "same" or min(found.p_worse, found.p_better) <= error / comparisons


def device_change(earlier_ms: Sequence[float], tonight_ms: float, smallest: float) -> tuple[float | None, bool]:
    """How much the reference's own latency moved against earlier nights, and whether that is a change of the device.

    Args:
        earlier_ms: its medians in earlier nights on this device.
        tonight_ms: tonight's.
        smallest: a smaller fraction is no change.
    """
    if not earlier_ms:
        return None, False
    logs = np.log(earlier_ms)
    middle = float(np.median(logs))
    moved = float(np.log(tonight_ms)) - middle
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(logs - middle))) if len(logs) >= FEWEST_NIGHTS else 0.0
    return float(np.expm1(moved)), bool(abs(moved) > max(np.log1p(smallest), SIGMAS * scatter))


def change_points(values: Sequence[float]) -> list[int]:
    """Where a series changes its level: the index of the first value of each new level. It dates, it doesn't judge.

    Raises:
        ImportError: ruptures isn't installed (``pip install "yolo-slim[nightly]"``).
    """
    import ruptures

    series = np.asarray(values, np.float64)
    noise = MAD_TO_SIGMA * float(np.median(np.abs(np.diff(series)))) / np.sqrt(2) if len(series) > 1 else 0.0
    if len(series) < 2 * MIN_LEVEL or noise == 0:
        return []
    penalty = 3 * noise**2 * np.log(len(series))
    # Squared distances, as Pelt(model="l2") has them, but in C: a year takes under a millisecond.
    found = ruptures.KernelCPD(kernel="linear", min_size=MIN_LEVEL).fit(series.reshape(-1, 1)).predict(pen=penalty)
    return [int(index) for index in found[:-1]]


MIN_LEVEL = 3
"""Fewest nights of one level."""


def _walsh(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of all pairs of values, each with itself too, sorted."""
    rows, columns = np.triu_indices(len(values))
    return np.sort((values[rows] + values[columns]) / 2)


def _pseudo_median(values: NDArray[np.float64]) -> float:
    """The estimate that belongs to the signed-rank test (Hodges and Lehmann, 1963)."""
    return float(np.median(_walsh(values)))


def _interval_of_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Confidence interval that belongs to the signed-rank test, by its normal approximation, (2,)."""
    from scipy.stats import norm

    means, count = _walsh(values), len(values)
    deviation = np.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    cut = int(max(0, np.floor(len(means) / 2 - norm.ppf((1 + CONFIDENCE) / 2) * deviation)))
    return np.array([means[cut], means[-1 - cut]])
