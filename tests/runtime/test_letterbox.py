from __future__ import annotations

import cv2
import numpy as np
import pytest
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from yolo_slim.errors import SlimError
from yolo_slim.runtime.letterbox import Letterbox, fit, letterbox

SHAPES = [
    ((480, 640), (640, 640)),
    ((640, 480), (640, 640)),
    ((427, 333), (320, 320)),
    ((64, 64), (64, 64)),
    ((50, 31), (64, 96)),
    ((1, 500), (64, 64)),
    ((375, 500), (352, 640)),
    ((719, 1279), (384, 640)),
]


def random_image(shape: tuple[int, int]) -> np.ndarray:
    """Return noise, the same for a shape every time."""
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize(("shape", "imgsz"), SHAPES)
def test_equals_ultralytics(shape: tuple[int, int], imgsz: tuple[int, int]) -> None:
    """Pixels are those of Ultralytics' LetterBox and /255 in float32, bit for bit."""
    image = random_image(shape)
    theirs = LetterBox(imgsz, auto=False)(image=image)[..., ::-1].transpose(2, 0, 1)
    blob, _ = letterbox(image, imgsz)
    np.testing.assert_array_equal(blob[0], theirs.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(("shape", "imgsz"), SHAPES)
def test_boxes_return_as_in_ultralytics(shape: tuple[int, int], imgsz: tuple[int, int]) -> None:
    """Boxes return to the image as scale_boxes moves them, to .001 of the image's longer side."""
    import torch

    boxes = np.random.default_rng(0).uniform(0, max(imgsz), (40, 4)).astype(np.float32)
    theirs = ops.scale_boxes(imgsz, torch.from_numpy(boxes.copy()), shape).numpy()
    ours, unclipped = fit(shape, imgsz).to_image(boxes), fit(shape, imgsz).to_image(boxes, clip=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * max(shape))
    np.testing.assert_array_equal(np.clip(unclipped, 0, [*shape[::-1]] * 2), ours)


def test_buffer_is_reused_between_sizes() -> None:
    """A reused letterbox leaves nothing of the frame before, whatever its size was."""
    reused = Letterbox((64, 64))
    for shape in [(100, 30), (30, 100), (64, 64), (30, 100)]:
        image = random_image(shape)
        np.testing.assert_array_equal(reused(image)[0], letterbox(image, (64, 64))[0])


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (np.zeros((8, 8), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((8, 8, 1), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((8, 8, 4), np.uint8), "COLOR_BGRA2BGR"),
        (np.zeros((8, 8, 3), np.float32), "astype(numpy.uint8)"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (None, "cv2.imread"),
    ],
)
def test_refuses_other_arrays(image: object, remedy: str) -> None:
    """An array that isn't (H, W, 3) uint8 is refused with the conversion it needs."""
    with pytest.raises(SlimError) as caught:
        letterbox(image, (64, 64))
    assert remedy in caught.value.remedy


def test_advice_for_one_channel_works() -> None:
    """The conversion that the message advises gives an accepted image."""
    image = np.full((8, 8, 1), 51, np.uint8)
    for one in (image[..., 0], image):
        blob, _ = letterbox(cv2.cvtColor(one, cv2.COLOR_GRAY2BGR), (64, 64))
        assert blob.shape == (1, 3, 64, 64)
        assert blob == pytest.approx(0.2)
