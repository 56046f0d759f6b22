from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.helpers.tiny_detector import scene
from yolo_slim.bundle import open_bundle, read_spec, write_bundle_json
from yolo_slim.errors import SlimError
from yolo_slim.runtime import selfcheck
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import (
    EXPECTED,
    FOLDER,
    check,
    compare,
    make_selfcheck,
)
from yolo_slim.runtime.sources import read_image
from yolo_slim.runtime.tolerances import Answer, Tolerances, input_pixel, max_score_difference


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections for rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(boxes=table[:, :4], scores=table[:, 4], class_ids=table[:, 5].astype(np.int64))


def problems_of(
    expected: Detections, found: Detections, *, conf: float = 0.25, score: float = 0.05, pixel: float = 1.0
) -> tuple[str, ...]:
    """Compare two answers whose candidates aren't known."""
    limits = Tolerances(score=score, nms_iou=0.7, image_hw=(640 * pixel, 640 * pixel), imgsz=(640, 640))
    return compare("1.png", Answer(detections=expected), Answer(detections=found), conf, limits).problems


def remake(bundle: Path, images: list[np.ndarray], count: int = 3) -> int:
    """Give a bundle a self-check that is chosen from images; return how many detections it compares."""
    spec = read_spec(bundle)
    shutil.rmtree(bundle / FOLDER)
    paths = [bundle.parent / f"candidate-{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    write_bundle_json(bundle, spec)
    with Detector(bundle) as detector:
        compared = make_selfcheck(bundle, paths, detector, count)
    write_bundle_json(bundle, spec)
    return compared


SEEN = detections((0, 0, 100, 100, 0.9, 0), (200, 200, 300, 300, 0.6, 1))


def test_fresh_bundle_passes(tiny_bundle: Path) -> None:
    """A bundle passes where it was built, and every image had something to find."""
    report = check(open_bundle(tiny_bundle))
    assert report.is_passed
    assert [(image.expected, image.matched) for image in report.images] == [(2, 2), (2, 2)]


def test_pictures(tiny_bundle: Path) -> None:
    """A self-check has a PNG and a JPEG that is stored turned, and shows the same scene when it is read."""
    assert sorted(path.name for path in (tiny_bundle / FOLDER).iterdir()) == ["1.png", "2.jpg", EXPECTED]
    jpeg = tiny_bundle / FOLDER / "2.jpg"
    stored = cv2.imread(str(jpeg), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE), cv2.imread(str(jpeg)))
    assert np.abs(cv2.imread(str(jpeg)).astype(int) - scene(128, 128)).max() < 10
    with Image.open(jpeg) as opened:
        assert ImageOps.exif_transpose(opened).getpixel((5, 5))[0] > 200


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_device_that_ignores_exif_fails(
    own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """An OpenCV that doesn't turn images fails the self-check, on square pictures by what is found in them."""
    remake(own_bundle, [scene(*size)])
    assert check(open_bundle(own_bundle)).is_passed
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION))
    report = check(open_bundle(own_bundle))
    assert [bool(image.problems) for image in report.images] == [False, True]
    assert ("read as 64x96 px: OpenCV" in report.as_text()) == (size == (64, 96))


def test_other_jpeg_decoder_passes(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two grey levels of difference, as between decoders, don't fail the self-check; a darker picture does."""
    levels = np.random.default_rng(0)

    def noisy(path: Path) -> np.ndarray:
        return np.clip(read_image(path) + levels.integers(-2, 3, read_image(path).shape), 0, 255).astype(np.uint8)

    monkeypatch.setattr(selfcheck, "read_image", noisy)
    assert check(open_bundle(tiny_bundle)).is_passed
    monkeypatch.setattr(selfcheck, "read_image", lambda path: read_image(path) // 2)
    assert not check(open_bundle(tiny_bundle)).is_passed


def test_images_with_detections_are_chosen(own_bundle: Path) -> None:
    """Images in which nothing is found are passed over, and no more are kept than asked for."""
    black = np.zeros((64, 64, 3), np.uint8)
    assert remake(own_bundle, [black, scene(), black, scene(), scene()], count=2) == 4
    report = check(open_bundle(own_bundle))
    assert [(image.file, image.expected) for image in report.images] == [("1.png", 2), ("2.jpg", 2)]
    assert (report.is_passed, report.compared) == (True, 4)


def test_nothing_expected_is_no_pass(own_bundle: Path) -> None:
    """A self-check with nothing to find fails and says that nothing was compared."""
    assert remake(own_bundle, [np.zeros((64, 64, 3), np.uint8)]) == 0
    report = check(open_bundle(own_bundle))
    assert not any(image.problems for image in report.images)
    assert not report.is_passed
    assert report.to_json()["passed"] is False
    assert report.as_text().splitlines()[-2].startswith("NOTHING WAS COMPARED")
    assert "self-check FAILED" in report.as_text()


def test_weak_model_is_compared_at_a_lower_threshold(own_bundle: Path) -> None:
    """Where no score is surely above the bundle's threshold, the self-check has one that the best score passes."""
    strict = replace(read_spec(own_bundle), conf=0.99)
    write_bundle_json(own_bundle, strict)
    assert remake(own_bundle, [scene()]) == 4
    report = check(open_bundle(own_bundle))
    assert report.is_passed
    assert json.loads((own_bundle / FOLDER / EXPECTED).read_text())["conf"] < 0.95


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
    assert len(problems_of(SEEN, found)) == problems


def test_small_boxes_may_move_as_far_as_large_ones() -> None:
    """Two pixels of the network's input are allowed, whatever that is in the image."""
    small, beside = detections((10, 10, 20, 20, 0.9, 0)), detections((11.9, 10, 21.9, 20, 0.9, 0))
    assert not problems_of(small, beside, pixel=1.0)
    assert problems_of(small, beside, pixel=0.5)
    assert input_pixel((960, 1280), (320, 320)) == 4.0


def test_detections_near_the_threshold_may_come_and_go() -> None:
    """A score just above the threshold may fall below it on another device."""
    faint = detections((0, 0, 10, 10, 0.26, 0))
    nothing = detections()
    assert not problems_of(faint, nothing)
    assert not problems_of(nothing, faint)
    assert problems_of(faint, nothing, conf=0.1)


@pytest.mark.parametrize(
    ("precision", "difference", "differs"), [("fp32", 0.07, True), ("int8", 0.07, False), ("int8", 0.11, True)]
)
def test_int8_scores_may_differ_more(precision: str, difference: float, differs: bool) -> None:
    """Processors round an int8 graph in different ways."""
    found = replace(SEEN, scores=SEEN.scores - np.float32(difference))
    assert bool(problems_of(SEEN, found, score=max_score_difference(precision))) is differs


def test_candidates_are_kept(tiny_bundle: Path) -> None:
    """A self-check knows what NMS chose from, so that a device may choose otherwise; without it, it still passes."""
    entry = json.loads((tiny_bundle / FOLDER / EXPECTED).read_text())["images"][0]
    assert entry["candidates"]["scores"][: len(entry["scores"])] == entry["scores"]
    assert min(entry["candidates"]["scores"]) >= 0.25 - 0.05


def test_bundle_of_an_earlier_version_passes(own_bundle: Path) -> None:
    """A self-check without candidates is compared by what is shown."""
    path = own_bundle / FOLDER / EXPECTED
    expected = json.loads(path.read_text())
    for entry in expected["images"]:
        del entry["candidates"]
    path.write_text(json.dumps(expected))
    write_bundle_json(own_bundle, read_spec(own_bundle))
    assert check(open_bundle(own_bundle)).is_passed
