"""Whether two measurements differ: answers, intervals, and the control of false alarms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from yolo_slim.history.rows import Compared
from yolo_slim.history.statistics import (
    SURELY_SAME,
    Rule,
    answers,
    change_points,
    compare_accuracy,
    compare_speed,
    device_change,
    holm,
    is_decided,
    resampled_changes,
    speed_p_values,
)
from yolo_slim.measuring.matches import Matches

SPEED = Rule(smallest=0.01, tolerance=0.03, looks=3)
ACCURACY = Rule(smallest=0.001, tolerance=0.01, resamples=200)
ERROR = 0.05


def rounds(change: float, seed: int, count: int = 48, noise: float = 0.02) -> tuple[list[float], list[float]]:
    """Latencies of a machine that drifts by a third, with a candidate that is slower by ``change``."""
    rng = np.random.default_rng(seed)
    drift = 10 * (1 + 0.3 * np.sin(np.linspace(0, 3, count)))
    candidate = drift * (1 + change) * np.exp(rng.normal(0, noise, count))
    return list(drift), list(candidate)


def found(p_worse: float, p_better: float = 1.0, answer: str = "unknown") -> Compared:
    """A comparison with these p values."""
    values = {"change": 0.0, "lowest": 0.0, "highest": 0.0, "samples": 1}
    return Compared(answer=answer, p_worse=p_worse, p_better=p_better, **values)


@pytest.mark.parametrize(("change", "answer"), [(0.03, "worse"), (0.0, "same"), (-0.04, "better")])
def test_speed_answers(change: float, answer: str) -> None:
    """A drift that both bundles share says nothing; three per cent between them are found among 20 cells."""
    speed = compare_speed(*rounds(change, 1), SPEED)
    assert answers([speed] + [found(0.5)] * 39, ERROR)[0] == answer
    assert speed.lowest < np.expm1(np.log1p(change)) < speed.highest


def test_speed_is_unknown_with_few_noisy_rounds() -> None:
    """Neither a change nor its absence can be shown: that is said, and more rounds decide."""
    few = compare_speed(*rounds(0.0, 3, count=12, noise=0.08), SPEED)
    assert few.answer == "unknown"
    assert not is_decided(few, ERROR, 40)
    assert is_decided(compare_speed(*rounds(0.0, 3, count=48), SPEED), ERROR, 40)


def test_smaller_change_than_the_smallest_is_none() -> None:
    """Half a per cent is surely there, and still no alarm."""
    speed = compare_speed(*rounds(0.005, 2, noise=0.001), SPEED)
    assert speed.lowest > 0
    assert answers([speed], ERROR) == ["same"]


def test_equal_rounds_are_the_same() -> None:
    """Rounds without any difference are no reason for an error of the test."""
    assert compare_speed([10.0] * 12, [10.0] * 12, SPEED).answer == "same"


def test_looks_are_paid_for() -> None:
    """Whoever looks three times for an answer needs a p value a third as large."""
    once = compare_speed(*rounds(0.015, 5, noise=0.03), replace(SPEED, looks=1))
    thrice = compare_speed(*rounds(0.015, 5, noise=0.03), SPEED)
    assert thrice.p_worse == pytest.approx(min(1.0, 3 * once.p_worse))


def test_looks_are_paid_for_by_same_too() -> None:
    """Of bundles that are slower by just the tolerance few are called the same at any of five looks.

    Control: judged as if there were a single look, many are.
    """
    rng, looks = np.random.default_rng(0), (12, 24, 48, 96, 192)
    logs = np.log1p(SPEED.tolerance) + rng.normal(0, 0.02, (2000, looks[-1]))

    def ever_same(rule: Rule) -> int:
        surely = [speed_p_values(logs[:, :look], rule)[:, 2:].max(axis=1) <= SURELY_SAME for look in looks]
        return int(np.any(surely, axis=0).sum())

    # 1 % of 2000 is 20; more than 35 has a probability below .1 %.
    assert ever_same(replace(SPEED, looks=len(looks))) <= 35 < ever_same(replace(SPEED, looks=1))


def test_holm_steps_down() -> None:
    """The smallest p value is held against error / n, the next against error / (n - 1), until one fails."""
    assert holm([0.011, 0.02, 0.012], 0.05) == [True, True, True]
    assert holm([0.03, 0.01, 0.04], 0.05) == [False, True, False]
    assert holm([], 0.05) == []


def test_false_alarms_of_a_night() -> None:
    """Of 40 null nights of 10 cells few have an alarm; judged cell by cell, most nights would have one."""
    rule = Rule(smallest=0.0, tolerance=0.03)
    together = alone = 0
    for night in range(40):
        logs = np.random.default_rng(night).normal(0, 0.02, (10, 12))
        speeds = [compare_speed([1.0] * 12, list(np.exp(row)), rule) for row in logs]
        together += "worse" in answers(speeds, ERROR)
        alone += any("worse" in answers([speed], ERROR) for speed in speeds)
    # 5 % of 40 are 2; more than 6 has a probability below .5 %.
    assert together <= 6
    assert alone >= 10


def image_matches(right: NDArray[np.bool_]) -> Matches:
    """One label and one detection an image, right or wrong."""
    count = len(right)
    numbers = np.arange(count)
    return Matches(
        files=tuple(map(str, numbers)), image=numbers, boxes=np.zeros((count, 4), np.int64),
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32), class_ids=np.zeros(count, np.int64),
        correct=np.repeat(right[:, None], 10, axis=1), label_image=numbers, label_class=np.zeros(count, np.int64),
    )  # fmt: skip


def test_accuracy_answers() -> None:
    """Equal detections are the same without any doubt; a fifth fewer right ones are worse, and better the other way."""
    good = image_matches(np.random.default_rng(0).random(300) < 0.9)
    bad = image_matches(good.correct[:, 0] & (np.random.default_rng(1).random(300) < 0.8))
    same, worse, better = (compare_accuracy(*pair, ACCURACY) for pair in ((good, good), (good, bad), (bad, good)))
    assert (same.answer, same.change, same.p_worse) == ("same", 0.0, 1.0)
    assert answers([worse] + [found(0.5)] * 39, ERROR)[0] == "worse"
    assert answers([better], ERROR) == ["better"]
    assert worse.change == pytest.approx(bad.map50_95() - good.map50_95())


def test_one_image_is_no_proof() -> None:
    """What a single image decides is within the noise of the choice of images."""
    good = image_matches(np.ones(40, bool))
    bad = image_matches(np.arange(40) != 20)
    one = compare_accuracy(good, bad, ACCURACY)
    assert one.change < -0.005
    assert answers([one], ERROR) == ["unknown"]


def test_images_are_chosen_for_both_alike() -> None:
    """The difference varies far less than either mAP: what one choice of images does to both cancels."""
    good = image_matches(np.random.default_rng(0).random(200) < 0.5)
    bad = image_matches(good.correct[:, 0] & (np.arange(200) != 3))
    alone = [good.map50_95(np.random.default_rng(i).multinomial(200, [1 / 200] * 200)) for i in range(100)]
    assert np.std(resampled_changes(good, bad, 100, 0)) < np.std(alone) / 3


def test_device_change() -> None:
    """A reference that moved more than it did before tells a changed device; a scattered past needs a larger move."""
    assert device_change([], 10.0, 0.1) == (None, False)
    assert device_change([10.0], 12.0, 0.1) == (pytest.approx(0.2), True)
    assert device_change([10.0, 10.1, 9.9, 10.0], 10.8, 0.1)[1] is False
    assert device_change([10.0, 13.0, 8.0, 11.5], 12.5, 0.1)[1] is False


def test_change_points_date_a_step() -> None:
    """A step of the level is dated; noise alone has none, nor has a series too short to have levels."""
    pytest.importorskip("ruptures")
    rng = np.random.default_rng(0)
    flat = rng.normal(10, 0.1, 60)
    assert change_points(flat) == []
    assert change_points([1.0, 2.0]) == []
    stepped = np.concatenate([flat[:40], flat[40:] + 1])
    assert change_points(stepped) == [40]
