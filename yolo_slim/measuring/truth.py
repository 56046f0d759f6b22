"""What an image's labels say is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.runtime.sources import read_image


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The labelled objects of one image."""

    boxes: NDArray[np.float64]
    """(N, 4) xyxy in the image's own pixels."""
    class_ids: NDArray[np.int64]
    """(N,)."""


def read_truth(image: Path) -> Truth:
    """Read an image's labels, converted to its own pixels."""
    # Decoded, because labels mean the image as its EXIF orientation turns it, and read_image applies that.
    height, width = read_image(image, convert_channels=True).shape[:2]
    rows = read_labels(label_path(image))
    centre, half = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height) / 2
    return Truth(boxes=np.concatenate([centre - half, centre + half], axis=1), class_ids=rows[:, 0].astype(np.int64))
