"""mAP of images that count any number of times, held against Ultralytics' own scorer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yolo_slim.measuring.accuracy import score
from yolo_slim.measuring.matches import Matches
from yolo_slim.measuring.truth import Truth
from yolo_slim.runtime.decode import Detections

NAMES = {0: "a", 1: "b", 2: "c"}


def scenes(seed: int, images: int = 30) -> tuple[list[Truth], list[Detections]]:
    """Random labels, and detections that find most of them, some badly, among false ones."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = int(rng.integers(0, 6))
        corner = rng.uniform(0, 80, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 30, (count, 2))], axis=1)
        classes = rng.integers(0, 3, count)
        truths.append(Truth(boxes=boxes, class_ids=classes))
        seen = rng.random(count) < 0.8
        moved = boxes[seen] + rng.normal(0, 1.5, (int(seen.sum()), 4))
        false = rng.uniform(0, 60, (int(rng.integers(0, 8)), 2))
        every = np.concatenate([moved, np.concatenate([false, false + 20], axis=1)]).astype(np.float32)
        ids = np.concatenate([classes[seen], rng.integers(0, 3, len(false))])
        # Distinct scores: with equal ones the order would decide.
        scores = np.sort(rng.random(len(every)).astype(np.float32))[::-1].copy()
        order = rng.permutation(len(every))
        found.append(Detections(boxes=every[order], scores=scores, class_ids=ids[order].astype(np.int64)))
    return truths, found


def matches(truths: list[Truth], found: list[Detections]) -> Matches:
    """Match them under invented file names."""
    return Matches.of([Path(f"{number}.jpg") for number in range(len(truths))], truths, found)


@pytest.mark.parametrize("seed", range(5))
def test_map_is_the_scorers(seed: int) -> None:
    """Each image counted once gives the very mAP that a result has."""
    truths, found = scenes(seed)
    assert matches(truths, found).map50_95() == pytest.approx(score(truths, found, NAMES).map50_95, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_copies(seed: int) -> None:
    """An image that counts three times is as good as three copies of it, one that doesn't count as good as absent."""
    truths, found = scenes(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(truths))
    rows = np.repeat(np.arange(len(truths)), weights)
    expected = score([truths[row] for row in rows], [found[row] for row in rows], NAMES).map50_95
    assert matches(truths, found).map50_95(weights) == pytest.approx(expected, abs=2e-3)
    alone = (weights > 0).astype(np.int64)
    kept = [row for row in range(len(truths)) if alone[row]]
    expected = score([truths[row] for row in kept], [found[row] for row in kept], NAMES).map50_95
    assert matches(truths, found).map50_95(alone) == pytest.approx(expected, abs=1e-12)


def test_json_gives_the_same_back() -> None:
    """What is recorded scores exactly as what was measured, image by image."""
    one = matches(*scenes(7))
    again = Matches.from_json(json.loads(json.dumps(one.to_json())))
    assert again.map50_95() == one.map50_95()
    np.testing.assert_array_equal(again.per_image(), one.per_image())
    assert again.files[3] == "3.jpg"


def test_no_detection_and_no_label() -> None:
    """Nothing found scores zero; nothing to find has no class, and scores zero too."""
    truths, _ = scenes(1)
    nothing = [Detections(boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32),
                          class_ids=np.zeros(0, np.int64)) for _ in truths]  # fmt: skip
    assert matches(truths, nothing).map50_95() == 0.0
    empty = Truth(boxes=np.zeros((0, 4)), class_ids=np.zeros(0, np.int64))
    assert matches([empty] * len(truths), nothing).map50_95() == 0.0
