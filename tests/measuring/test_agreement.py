"""The comparison of one bundle's detections on two machines."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_slim.measuring.agreement import Agreement, agreement, allowed_map_difference, threshold
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.tolerances import Answer, Tolerances, max_score_difference

BOX = (10.0, 10.0, 50.0, 50.0)


def found(*rows: tuple[float, int, tuple[float, float, float, float]]) -> Detections:
    """Return detections of score, class and box, best score first."""
    rows = tuple(sorted(rows, key=lambda row: -row[0]))
    return Detections(
        boxes=np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[0] for row in rows], np.float32),
        class_ids=np.array([row[1] for row in rows], np.int64),
    )


def compared(one: Detections, other: Detections, pixel: float = 1.0, score: float = 0.05) -> Agreement:
    """Compare the answers for one image, from .25 on."""
    limits = Tolerances(score=score, nms_iou=0.7, image_hw=(640 * pixel, 640 * pixel), imgsz=(640, 640))
    return agreement([Answer(detections=one)], [Answer(detections=other)], 0.25, [limits])


def problems(one: Detections, other: Detections, pixel: float = 1.0, precision: str = "fp32") -> list[str]:
    """What is wrong with the answers for one image."""
    most = max_score_difference(precision)
    return compared(one, other, pixel, most).problems(most)


def moved(pixels: float) -> tuple[float, float, float, float]:
    """Return the box, moved to the right."""
    return (10.0 + pixels, 10.0, 50.0 + pixels, 50.0)


def test_equal_answers_agree() -> None:
    """Every detection has a partner that differs in nothing; those below the threshold aren't compared."""
    side = found((0.9, 0, BOX), (0.8, 1, BOX), (0.1, 0, moved(200)))
    limits = Tolerances(score=0.05, nms_iou=0.7, image_hw=(640, 640), imgsz=(640, 640))
    answers = [Answer(detections=side), Answer(detections=found())]
    both = agreement(answers, answers, 0.25, [limits, limits])
    assert (both.matched, both.unmatched, both.suppressed) == (2, (), 0)
    assert (both.largest_score_difference, both.lowest_iou, both.largest_shift_px) == (0.0, 1.0, 0.0)
    assert both.problems(0.05) == []


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (found((0.84, 0, BOX)), "a score differs by 0.0600"),
        (found((0.9, 0, moved(3))), "IoU 0.860, sides 3.0 px of the input apart"),
        (found((0.9, 1, BOX)), "only one side has"),
        (found((0.9, 0, moved(30))), "only one side has"),
        (found(), "only one side has"),
        (found((0.9, 0, BOX), (0.9, 0, moved(100))), "only one side has"),
    ],
)
def test_differences_are_found(other: Detections, problem: str) -> None:
    """Score, box, class, a missing and an additional detection: each is a problem, whichever side it is on."""
    side = found((0.9, 0, BOX))
    for one, two in ((side, other), (other, side)):
        assert any(problem in text for text in problems(one, two))


def test_small_boxes_may_move_as_far_as_large_ones() -> None:
    """Two pixels of the input are allowed whatever the box's size; more of the image's where it is larger."""
    small, beside = (10.0, 10.0, 20.0, 20.0), (11.9, 10.0, 21.9, 20.0)
    pair = found((0.9, 0, small)), found((0.9, 0, beside))
    assert problems(*pair, pixel=1.0) == []
    assert problems(*pair, pixel=0.5)


def test_a_threshold_between_two_scores_is_no_difference() -> None:
    """A detection just above the threshold has its partner just below it."""
    both = compared(found((0.26, 0, BOX)), found((0.24, 0, BOX)))
    assert (both.matched, both.unmatched) == (1, ())


def test_int8_may_differ_more() -> None:
    """Integers on one side and floats on the other move a score further; fp16 has no such excuse."""
    pair = found((0.9, 0, BOX)), found((0.83, 0, BOX))
    assert problems(*pair, precision="int8") == []
    assert problems(*pair, precision="fp16")


def test_nan_never_agrees() -> None:
    """A score that is no number is a problem."""
    assert problems(found((0.9, 0, BOX)), found((float("nan"), 0, BOX)))


def test_weak_models_are_compared_by_their_best() -> None:
    """Where nothing reaches the bundle's threshold, half the best score is taken: else nothing would be compared."""
    assert threshold([Answer(detections=found((0.9, 0, BOX)))], 0.25) == 0.25
    assert threshold([Answer(detections=found((0.1, 0, BOX))), Answer(detections=found())], 0.25) == pytest.approx(0.05)
    assert threshold([Answer(detections=found())], 0.25) == 0.001


def test_few_images_allow_more() -> None:
    """MAP of a few images changes much by one detection."""
    assert allowed_map_difference(8) == pytest.approx(0.13)
    assert allowed_map_difference(1000) == pytest.approx(0.006)
