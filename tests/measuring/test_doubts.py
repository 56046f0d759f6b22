"""Labels that contradict sure detections are told; right ones and chance aren't."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from yolo_slim.measuring.doubts import doubts
from yolo_slim.measuring.truth import Truth
from yolo_slim.runtime.decode import Detections

NAMES = {0: "head", 1: "helmet", 2: "vest"}
IMAGES, OBJECTS = 8, 6


def objects(seed: int) -> Truth:
    """Boxes of 20 pixels in a grid, of all classes in turns."""
    start = np.array([[40.0 * number, 10.0 + seed] for number in range(OBJECTS)])
    return Truth(boxes=np.concatenate([start, start + 20], axis=1), class_ids=np.arange(OBJECTS) % len(NAMES))


def found(truth: Truth, score: float = 0.9) -> Detections:
    """Detections of a network that finds everything."""
    scores = np.full(len(truth.class_ids), score, np.float32)
    return Detections(boxes=truth.boxes.astype(np.float32), scores=scores, class_ids=truth.class_ids)


RIGHT = [objects(seed) for seed in range(IMAGES)]


def with_boxes(change: Callable[[np.ndarray], np.ndarray]) -> list[Truth]:
    """Labels with other boxes."""
    return [Truth(boxes=change(truth.boxes), class_ids=truth.class_ids) for truth in RIGHT]


def part(share: float) -> list[Truth]:
    """The first labels of every image."""
    count = round(share * OBJECTS)
    return [Truth(boxes=truth.boxes[:count], class_ids=truth.class_ids[:count]) for truth in RIGHT]


def with_classes(change: dict[int, int]) -> list[Truth]:
    """Labels with other classes."""
    return [
        Truth(boxes=truth.boxes, class_ids=np.array([change.get(one, one) for one in truth.class_ids.tolist()]))
        for truth in RIGHT
    ]


def twice(class_id: int) -> list[Truth]:
    """Labels with every object in a second class too."""
    return [
        Truth(
            boxes=np.concatenate([truth.boxes, truth.boxes]),
            class_ids=np.concatenate([np.full(OBJECTS, class_id), truth.class_ids]),
        )
        for truth in RIGHT
    ]


@pytest.mark.parametrize(
    "truths", [RIGHT, twice(1), part(5 / 6), with_boxes(lambda boxes: boxes + np.array([1, 1, 1, 1]))]
)
def test_nothing_to_tell(truths: list[Truth]) -> None:
    """All labels, each object in two classes, a sixth missing, and a pixel beside: as people label."""
    assert doubts(truths, [found(truth) for truth in RIGHT], NAMES) == []


@pytest.mark.parametrize(
    ("truths", "told"),
    [
        (part(0.5), "24 of 48 sure detections (score from 0.5) have no label at their place"),
        (with_boxes(lambda boxes: boxes + np.array([100, 100, 100, 100])), "48 of 48 sure detections"),
        (
            with_boxes(lambda boxes: boxes + np.array([0, 8, 0, 8])),
            "labels lie +0.00 widths and +0.40 heights from the objects",
        ),
        (with_classes({0: 1, 1: 0}), "16 of 16 objects found as class 0 head are labelled otherwise, mostly 1 helmet"),
        (with_classes({2: 0}), "16 of 16 objects found as class 2 vest are labelled otherwise, mostly 0 head"),
        ([Truth(boxes=np.zeros((0, 4)), class_ids=np.zeros(0, np.int64))] * IMAGES, "48 of 48 sure detections"),
    ],
)
def test_contradictions(truths: list[Truth], told: str) -> None:
    """Half of the labels deleted, elsewhere, moved, two classes swapped, one renamed, and none at all."""
    said = doubts(truths, [found(truth) for truth in RIGHT], NAMES)
    assert any(told in one for one in said), said


def test_unsure_detections_say_nothing() -> None:
    """Negative control: the same contradiction by scores below the limit, and by fewer detections than it takes."""
    wrong = part(0.5)
    assert doubts(wrong, [found(truth, 0.4) for truth in RIGHT], NAMES) == []
    assert doubts(wrong[:1], [found(RIGHT[0])], NAMES) == []
    assert doubts([], [], NAMES) == []
