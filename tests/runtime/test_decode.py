from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from ultralytics.utils.nms import non_max_suppression

from yolo_slim.runtime.decode import VAL, Thresholds, decode
from yolo_slim.runtime.letterbox import fit
from yolo_slim.runtime.nms import nms

IDENTITY = fit((640, 640), (640, 640))


def random_raw(seed: int, classes: int, anchors: int = 3000) -> np.ndarray:
    """Return (1, 4 + classes, anchors): clustered boxes, so that NMS has work, and mostly low scores."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(50, 590, (2, 40))[:, rng.integers(0, 40, anchors)] + rng.normal(0, 6, (2, anchors))
    sizes = rng.uniform(20, 90, (2, anchors))
    scores = rng.uniform(0, 1, (classes, anchors)) ** 6
    return np.concatenate([centres, sizes, scores]).astype(np.float32)[None]


def ultralytics(raw: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Return Ultralytics' (N, 6) detections in input pixels."""
    found = non_max_suppression(
        torch.from_numpy(raw.copy()),
        thresholds.conf,
        thresholds.iou,
        multi_label=thresholds.multi_label,
        max_det=thresholds.max_det,
        max_nms=thresholds.max_nms,
    )[0]
    return found.numpy()


def assert_equal_to_ultralytics(raw: np.ndarray, layout: str, thresholds: Thresholds) -> None:
    """Assert that there are detections and that they equal Ultralytics' bit for bit."""
    theirs = ultralytics(raw, thresholds)
    ours = decode(raw, layout, IDENTITY, thresholds)
    assert len(theirs) > 0
    np.testing.assert_array_equal(ours.scores, theirs[:, 4])
    np.testing.assert_array_equal(ours.class_ids, theirs[:, 5])
    np.testing.assert_array_equal(ours.boxes, theirs[:, :4].clip(0, 640) if thresholds.clip else theirs[:, :4])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [1, 2, 80])
def test_predict_equals_ultralytics(seed: int, classes: int) -> None:
    """Boxes, scores, classes and their order equal Ultralytics' predict mode, bit for bit."""
    assert_equal_to_ultralytics(random_raw(seed, classes), "one2many", Thresholds())


@pytest.mark.parametrize("classes", [1, 2, 20])
def test_val_equals_ultralytics(classes: int) -> None:
    """So they do in val mode, where every class of a box is a candidate."""
    assert_equal_to_ultralytics(random_raw(7, classes, anchors=600), "one2many", VAL)


@pytest.mark.parametrize("thresholds", [Thresholds(iou=0.45, max_det=10), Thresholds(conf=0.01, max_nms=500)])
def test_limits_equal_ultralytics(thresholds: Thresholds) -> None:
    """The IoU threshold and the two limits cut where Ultralytics cuts."""
    assert_equal_to_ultralytics(random_raw(3, 4), "one2many", thresholds)


def test_end2end_equals_ultralytics() -> None:
    """A (1, 300, 6) output is cut by score and nothing else."""
    rng = np.random.default_rng(1)
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, :, :2] = rng.uniform(0, 300, (300, 2))
    rows[0, :, 2:4] = rows[0, :, :2] + rng.uniform(5, 300, (300, 2))
    rows[0, :, 4] = np.sort(rng.uniform(0, 1, 300))[::-1]
    rows[0, :, 5] = rng.integers(0, 3, 300)
    assert_equal_to_ultralytics(rows, "end2end", Thresholds())
    assert_equal_to_ultralytics(rows, "end2end", Thresholds(max_det=20))


@pytest.mark.parametrize("layout_and_shape", [("one2many", (1, 6, 100)), ("end2end", (1, 300, 6))])
def test_nothing_found(layout_and_shape: tuple[str, tuple[int, int, int]]) -> None:
    """An image without an object gives empty arrays of the usual shapes."""
    layout, shape = layout_and_shape
    found = decode(np.zeros(shape, np.float32), layout, IDENTITY, Thresholds())
    assert (found.boxes.shape, found.scores.shape, found.class_ids.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1000])
@pytest.mark.parametrize("iou", [0.0, 0.5, 0.7, 1.0])
def test_nms_equals_torchvision(count: int, iou: float) -> None:
    """Survivors equal torchvision's around the block size, with equal scores and empty boxes among them."""
    rng = np.random.default_rng(count)
    corner = rng.integers(0, 40, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.integers(0, 30, (count, 2)).astype(np.float32)], axis=1)
    scores = rng.integers(0, 50, count).astype(np.float32) / np.float32(50)
    theirs = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou).numpy()
    np.testing.assert_array_equal(nms(boxes, scores, iou, limit=count + 1), theirs)
    np.testing.assert_array_equal(nms(boxes, scores, iou, limit=5), theirs[:5])


def test_inputs_stay_as_they_are() -> None:
    """Decoding doesn't write into the runtime's output buffer."""
    raw = random_raw(0, 3)
    before = raw.copy()
    decode(raw, "one2many", fit((480, 640), (640, 640)), Thresholds())
    np.testing.assert_array_equal(raw, before)
