from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_detector import build_bundle, scene, write_onnx
from yolo_slim.bundle import open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.infer import infer_folder, load_detections, save_detections


def test_finds_what_is_there(tiny_bundle: Path) -> None:
    """Boxes lie in the image's own pixels: a 64 x 64 model on a 128 x 192 image with bars."""
    with Detector(tiny_bundle) as detector:
        found = detector.detect(scene(128, 128))
    assert found.class_ids.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes, [[0, 0, 20, 20], [60, 60, 84, 84]], atol=1e-4)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-4)), atol=1e-5)


def test_frames_are_independent(tiny_bundle: Path) -> None:
    """Buffers are reused, yet an answer stays what it was while other frames follow, and repeats exactly."""
    with Detector(tiny_bundle) as detector:
        first = detector.detect(scene(100, 80))
        copy = first.boxes.copy(), first.scores.copy()
        detector.detect(np.zeros((30, 90, 3), np.uint8))
        again = detector.detect(scene(100, 80))
    np.testing.assert_array_equal(first.boxes, copy[0])
    np.testing.assert_array_equal(first.scores, copy[1])
    np.testing.assert_array_equal(first.boxes, again.boxes)


def test_val_mode_sees_more(tiny_bundle: Path) -> None:
    """Mode val takes score .001 and every class; predict takes the bundle's threshold; a given one wins."""
    with Detector(tiny_bundle) as detector:
        assert len(detector.detect(scene(), mode="val")) > len(detector.detect(scene())) == 2
        assert len(detector.detect(scene(), conf=0.99)) == 0


def test_bad_arguments(tiny_bundle: Path) -> None:
    """An unknown mode and an impossible number of threads are errors."""
    with Detector(tiny_bundle) as detector, pytest.raises(SlimError, match="Unknown mode 'train'"):
        detector.detect(scene(), mode="train")
    with pytest.raises(SlimError, match="threads must be at least 1"):
        Detector(tiny_bundle, threads=0)


def test_runtimes_agree(tiny_bundle: Path, photo: Path, tmp_path: Path) -> None:
    """NCNN and ONNX Runtime find the same; fp16 weights move a score by less than .01."""
    ncnn = build_bundle(write_onnx(tmp_path / "tiny.onnx"), tmp_path / "ncnn", "ncnn")
    answers = [infer_folder(bundle, [photo])[0].detections for bundle in (open_bundle(tiny_bundle), ncnn)]
    assert len(answers[0]) > 0
    np.testing.assert_array_equal(answers[0].class_ids, answers[1].class_ids)
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, atol=0.01)
    np.testing.assert_allclose(answers[0].boxes, answers[1].boxes, atol=0.1)


def test_detections_round_trip(tiny_bundle: Path, photo: Path, tmp_path: Path) -> None:
    """Saved detections load as they were, to the digits written."""
    path = tmp_path / "answer.json"
    with Detector(tiny_bundle) as detector:
        images = infer_folder(detector, [photo], root=photo.parent)
        save_detections(path, images, detector, "val")
    (loaded,) = load_detections(path)
    assert (loaded.file, loaded.image_hw) == ("photo.png", (128, 192))
    np.testing.assert_allclose(loaded.detections.boxes, images[0].detections.boxes, atol=5e-4)
    np.testing.assert_allclose(loaded.detections.scores, images[0].detections.scores, atol=1e-7)
    assert loaded.times == images[0].times


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 99}', '{"schema": 1, "images": [{}]}'])
def test_damaged_detections(tmp_path: Path, content: str) -> None:
    """An incomplete detections file is an error."""
    (tmp_path / "answer.json").write_text(content)
    with pytest.raises(SlimError):
        load_detections(tmp_path / "answer.json")
