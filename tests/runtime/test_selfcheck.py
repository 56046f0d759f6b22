from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yolo_slim.bundle import open_bundle, read_spec, write_bundle_json
from yolo_slim.errors import SlimError
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.selfcheck import EXPECTED, FOLDER, check, compare


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections for rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(boxes=table[:, :4], scores=table[:, 4], class_ids=table[:, 5].astype(np.int64))


SEEN = detections((0, 0, 100, 100, 0.9, 0), (200, 200, 300, 300, 0.6, 1))


def test_fresh_bundle_passes(tiny_bundle: Path) -> None:
    """A bundle passes where it was built, and every image had something to find."""
    report = check(open_bundle(tiny_bundle))
    assert report.is_passed
    assert [(image.expected, image.matched) for image in report.images] == [(2, 2), (2, 2)]


def test_other_expectation_fails(own_bundle: Path) -> None:
    """Negative control: a bundle that should have seen a box elsewhere fails and says which."""
    path = own_bundle / FOLDER / EXPECTED
    expected = json.loads(path.read_text())
    expected["images"][0]["boxes"][0] = [30, 0, 42, 10]
    path.write_text(json.dumps(expected))
    write_bundle_json(own_bundle, read_spec(own_bundle))
    report = check(open_bundle(own_bundle))
    assert not report.is_passed
    assert [len(image.problems) for image in report.images] == [2, 0]
    assert report.images[0].problems[0].startswith("missing: class ")


def test_no_selfcheck(own_bundle: Path) -> None:
    """A bundle without a self-check is an error, not a pass."""
    for path in (own_bundle / FOLDER).iterdir():
        path.unlink()
    write_bundle_json(own_bundle, read_spec(own_bundle))
    with pytest.raises(SlimError, match="no self-check"):
        check(open_bundle(own_bundle))


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        (SEEN, 0),
        (detections((1, 1, 101, 101, 0.87, 0), (200, 200, 301, 301, 0.64, 1)), 0),
        (detections((0, 0, 100, 100, 0.9, 1), (200, 200, 300, 300, 0.6, 1)), 2),
        (detections((0, 0, 100, 100, 0.8, 0), (200, 200, 300, 300, 0.6, 1)), 2),
        (detections((20, 0, 120, 100, 0.9, 0), (200, 200, 300, 300, 0.6, 1)), 2),
        (detections((0, 0, 100, 100, 0.9, 0)), 1),
        (detections(), 2),
    ],
    ids=["same", "within tolerance", "other class", "other score", "moved", "one missing", "nothing"],
)
def test_compare(found: Detections, problems: int) -> None:
    """A detection pairs only with one of its class, place and score; both sides of a mismatch are listed."""
    assert len(compare("1.png", SEEN, found, conf=0.25).problems) == problems


def test_detections_near_the_threshold_may_come_and_go() -> None:
    """A score just above the threshold may fall below it on another device."""
    faint = detections((0, 0, 10, 10, 0.26, 0))
    nothing = detections()
    assert not compare("1.png", faint, nothing, conf=0.25).problems
    assert not compare("1.png", nothing, faint, conf=0.25).problems
    assert compare("1.png", faint, nothing, conf=0.1).problems
