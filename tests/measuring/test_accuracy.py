"""The mAP is the one that `yolo val` prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.measuring.accuracy import Truth, read_truths, score
from yolo_slim.measuring.predict import detect_all, torch_infer
from yolo_slim.models import checkpoint
from yolo_slim.progress import Silent
from yolo_slim.runtime.decode import Detections

NAMES = {0: "a", 1: "b"}


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Detections:
    """Return detections."""
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        class_ids=np.array(classes, np.int64),
    )


def test_perfect_shifted_and_missing() -> None:
    """Exact boxes score 1, a box of IoU .6 counts at three of ten thresholds, nothing found scores 0."""
    truth = [Truth(boxes=np.array([[0.0, 0, 100, 100]]), class_ids=np.array([0]))]
    assert score(truth, [found([[0, 0, 100, 100]], [0.9], [0])], NAMES).map50_95 == pytest.approx(0.995, abs=1e-3)
    shifted = score(truth, [found([[0, 0, 100, 62]], [0.9], [0])], NAMES)
    assert shifted.map50_95 == pytest.approx(0.3 * 0.995, abs=1e-3)
    nothing = score(truth, [found([], [], [])], NAMES)
    assert (nothing.map50_95, nothing.per_class) == (0, {0: {"ap50_95": 0, "ap50": 0}})
    assert score(truth, [found([[0, 0, 100, 100]], [0.9], [1])], NAMES).map50_95 == 0


def test_two_classes_of_one_name() -> None:
    """Each keeps its own accuracy: tables are keyed by number."""
    truth = [Truth(boxes=np.array([[0.0, 0, 10, 10], [50, 50, 90, 90]]), class_ids=np.array([0, 1]))]
    scored = score(truth, [found([[0, 0, 10, 10]], [0.9], [0])], {0: "bolt", 1: "bolt"})
    assert {key: round(value["ap50"], 2) for key, value in scored.per_class.items()} == {0: 0.99, 1: 0.0}
    assert scored.map50 == pytest.approx(0.4975)


def test_parity_with_yolo_val(trained: Path, signs: Path, tmp_path: Path) -> None:
    """On real weights and images our mAP is within .003 of `yolo val rect=False`."""
    from ultralytics import YOLO

    dataset = load_dataset(signs)
    images = dataset.splits["train"]
    infer = torch_infer(checkpoint.load(trained).model, end2end=False)
    detections = detect_all(images, infer, layout="one2many", imgsz=128, progress=Silent(), text="")
    ours = score(read_truths(images, dataset.label_format()), detections, dataset.names).map50_95
    data = write_absolute_yaml(dataset, tmp_path / "data.yaml")
    arguments = {"imgsz": 128, "rect": False, "plots": False, "workers": 0, "project": str(tmp_path)}
    theirs = YOLO(trained).val(data=str(data), split="train", batch=8, verbose=False, **arguments).box.map
    assert ours > 0.1
    assert ours == pytest.approx(theirs, abs=0.003)
