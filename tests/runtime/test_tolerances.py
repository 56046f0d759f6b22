"""What two machines may show differently: another choice of non-maximum suppression, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_slim.measuring.agreement import agreement
from yolo_slim.runtime.decode import CANDIDATES, VAL, Detections, Thresholds, decode
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.selfcheck import compare
from yolo_slim.runtime.tolerances import Answer, Tolerances, is_suppressed

USUAL = Thresholds()
LIMITS = Tolerances(score=0.05, nms_iou=0.7, image_hw=(128, 128), imgsz=(128, 128))
FIRST, SECOND = (20.0, 20.0, 60.0, 60.0), (20.0, 20.0, 60.0, 48.2)
"""Two boxes of one object, as xyxy; their IoU is .705."""
APART = (20.0, 20.0, 60.0, 47.8)
"""The second one, less than half a pixel shorter: IoU .695."""


def answer(*rows: tuple[float, tuple[float, float, float, float]], thresholds: Thresholds = USUAL) -> Answer:
    """Decode a raw output with candidates of score and box, as a detector does."""
    geometry = Letterbox((128, 128))(np.zeros((128, 128, 3), np.uint8))[1]
    raw = np.array([[(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, score] for score, (x1, y1, x2, y2) in rows])
    raw = raw.reshape(-1, 5).T[None].astype(np.float32)
    seen, candidates = (decode(raw, "one2many", geometry, one) for one in (thresholds, CANDIDATES))
    return Answer(detections=seen, candidates=candidates)


def problems(one: Answer, other: Answer) -> list[str]:
    """What the self-check says; the emulation must say as much."""
    found = [*compare("1.png", one, other, 0.25, LIMITS).problems]
    assert bool(found) is bool(agreement([one], [other], 0.25, [LIMITS]).problems(LIMITS.score))
    return found


def without_candidates(one: Answer) -> Answer:
    """Forget what NMS chose from."""
    return Answer(detections=one.detections)


def test_overlap_at_the_threshold() -> None:
    """A box whose overlap is just above NMS's threshold on one machine is shown on the other, and nothing is wrong."""
    one, other = answer((0.9, FIRST), (0.6, SECOND)), answer((0.9, FIRST), (0.6, APART))
    assert (len(one.detections), len(other.detections)) == (1, 2)
    assert problems(one, other) == problems(other, one) == []
    assert agreement([one], [other], 0.25, [LIMITS]).suppressed == 1


def test_overlap_at_the_threshold_at_the_border() -> None:
    """The same for an object that reaches over the image's border: what is shown ends there."""
    whole, second, apart = ((100.0, 20.0, 140.0, bottom) for bottom in (60.0, 48.2, 47.8))
    one, other = answer((0.9, whole), (0.6, second)), answer((0.9, whole), (0.6, apart))
    assert (len(one.detections), len(other.detections)) == (1, 2)
    assert problems(one, other) == problems(other, one) == []


def test_scores_that_change_places() -> None:
    """Of two boxes with nearly the same score either may win."""
    one, other = answer((0.61, FIRST), (0.6, SECOND)), answer((0.6, FIRST), (0.61, SECOND))
    assert problems(one, other) == []
    assert agreement([one], [other], 0.25, [LIMITS]).matched == 0


def test_a_faint_box_is_no_partner_of_a_suppressed_one() -> None:
    """A sure box that NMS suppressed on the other machine isn't paired with a faint box that shows up there instead."""
    faint = (0.02, (20.0, 28.0, 60.0, 60.0))
    one = answer((0.61, FIRST), (0.6, SECOND), faint, thresholds=VAL)
    other = answer((0.6, FIRST), (0.61, SECOND), faint, thresholds=VAL)
    assert (len(one.detections), len(other.detections)) == (1, 2)
    found = agreement([one], [other], 0.25, [LIMITS])
    assert (found.matched, found.suppressed, found.problems(LIMITS.score)) == (0, 2, [])


def test_unknown_candidates_excuse_nothing() -> None:
    """Negative control: without the candidates nobody knows that the box was computed."""
    one, other = answer((0.9, FIRST), (0.6, SECOND)), answer((0.9, FIRST), (0.6, APART))
    assert problems(without_candidates(one), without_candidates(other))


@pytest.mark.parametrize(
    "other",
    [
        answer((0.9, FIRST)),
        answer((0.9, FIRST), (0.3, APART)),
        answer((0.9, FIRST), (0.6, (23.0, 23.0, 63.0, 50.8))),
        answer((0.6, APART)),
        answer(),
    ],
    ids=["not computed", "other score", "moved", "the better one is gone", "nothing"],
)
def test_what_was_not_computed_is_missing(other: Answer) -> None:
    """Negative controls: a box counts as suppressed only if the other machine computed it, and shows a better one."""
    one = answer((0.9, FIRST), (0.6, APART))
    assert problems(one, other)
    assert problems(other, one)


def showing(one: Answer, *indices: int) -> Answer:
    """What a machine shows whose NMS keeps these candidates, best score first."""
    kept, found = list(indices), one.candidates
    assert found is not None
    shown = Detections(boxes=found.boxes[kept], scores=found.scores[kept], class_ids=found.class_ids[kept])
    return Answer(detections=shown, candidates=found)


def test_suppression_that_keeps_the_worst_box() -> None:
    """Negative control: a box that scores less suppresses nothing."""
    one = answer((0.9, FIRST), (0.5, SECOND))
    assert problems(one, showing(one, 1))


def test_suppression_with_another_threshold() -> None:
    """Negative control: a machine whose NMS compares with .88 shows two boxes that overlap by .85."""
    one = answer((0.9, FIRST), (0.6, (20.0, 20.0, 60.0, 54.0)))
    assert len(one.detections) == 1
    assert problems(one, showing(one, 0, 1))
    assert problems(showing(one, 0, 1), one)


def test_no_suppression_at_all() -> None:
    """Negative control: a machine whose NMS drops nothing shows boxes that no machine leaves beside each other."""
    one = answer(*[(0.9 - 0.01 * i, (20.0 + 0.3 * i, 20.0, 60.0, 60.0)) for i in range(5)])
    assert len(one.detections) == 1
    assert problems(one, showing(one, *range(5)))


def test_two_objects_are_not_one() -> None:
    """Negative control: a candidate that no shown box overlaps wasn't suppressed, so its loss is a fault."""
    far = (80.0, 80.0, 120.0, 120.0)
    one = answer((0.9, FIRST), (0.8, far))
    lost = Answer(detections=answer((0.9, FIRST)).detections, candidates=one.candidates)
    assert problems(one, lost)


def test_other_class_suppresses_nothing() -> None:
    """Negative control: NMS only compares boxes of one class."""
    one = answer((0.9, FIRST), (0.6, APART)).detections
    other = answer((0.9, FIRST), (0.6, SECOND))
    as_other = Detections(boxes=one.boxes, scores=one.scores, class_ids=one.class_ids + 1)
    assert is_suppressed(one, 1, other, LIMITS)
    assert not is_suppressed(as_other, 1, other, LIMITS)
