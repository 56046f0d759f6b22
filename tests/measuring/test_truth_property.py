"""On random data sets of every form our mAP is that of `yolo val`, or the set is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import truth_sets
from tests.helpers.truth_parity import Referee
from tests.helpers.truth_sets import TruthSet
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import label_path
from yolo_slim.measuring.accuracy import Truth
from yolo_slim.runtime.sources import read_image

SEEDS = range(10)
TOLERANCE = 0.002


@pytest.fixture(scope="module")
def referee(trained: Path) -> Referee:
    """Return what scores the shipped model in both ways."""
    return Referee(trained)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[TruthSet]:
    """Return the random data sets of :data:`SEEDS`."""
    folder = tmp_path_factory.mktemp("truth")
    pool = truth_sets.scenes(folder / "scenes", count=16)
    return [truth_sets.make(pool, folder / str(seed), seed) for seed in SEEDS]


def test_map_is_that_of_yolo_val(referee: Referee, sets: list[TruthSet]) -> None:
    """Sets with labels that Ultralytics leaves out are refused, and all others are scored as it scores them."""
    assert any(made.is_corrupt for made in sets)
    for made in sets:
        ours = referee.ours(made.yaml)
        assert (ours is None) == made.is_corrupt, made.about
        if ours is not None:
            assert ours == pytest.approx(referee.theirs(made.yaml), abs=TOLERANCE), made.about


def test_other_readings_of_the_same_sets_differ(referee: Referee, sets: list[TruthSet]) -> None:
    """Negative control: rows that aren't made distinct in float32, and repeated images that count once, show."""

    def as_they_stand(images: Sequence[Path], _: Dataset) -> list[Truth]:
        return [_rows_as_they_stand(image) for image in images]

    good = [made.yaml for made in sets if not made.is_corrupt]
    right = np.array([referee.ours(data) for data in good], float)
    stand = np.array([referee.ours(data, as_they_stand) for data in good], float)
    once = np.array([referee.ours(data, each_once=True) for data in good], float)
    assert abs(stand - right).max() > 5 * TOLERANCE
    assert abs(once - right).max() > 5 * TOLERANCE


def _rows_as_they_stand(image: Path) -> Truth:
    """Boxes or polygons of every row, repeated or not; numbers after a box are taken for more points, as once."""
    height, width = read_image(image, convert_channels=True).shape[:2]
    label = label_path(image)
    text = label.read_text(encoding="utf-8-sig") if label.is_file() else ""
    rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
    boxes = [_corners(row[1:]) * (width, height, width, height) for row in rows]
    return Truth(boxes=np.array(boxes).reshape(-1, 4), class_ids=np.array([int(row[0]) for row in rows], np.int64))


def _corners(values: Sequence[float]) -> np.ndarray:
    """Left, top, right and bottom of a box or a polygon."""
    if len(values) == 4:
        centre, half = np.array(values[:2]), np.array(values[2:]) / 2
        return np.concatenate([centre - half, centre + half])
    points = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)
    return np.concatenate([points.min(0), points.max(0)])
