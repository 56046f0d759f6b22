"""Images as a graph's input, by the pre-processing of the devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from yolo_slim.quantization.session import Blob
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image


def blobs(images: Sequence[Path], imgsz: int) -> Iterator[Blob]:
    """Yield each image as the model's input (1, 3, imgsz, imgsz).

    All share one buffer: a blob is valid until the next one, and has to be copied to be kept.
    """
    letterbox = Letterbox((imgsz, imgsz))
    for path in images:
        yield letterbox(read_image(path, convert_channels=True))[0]
