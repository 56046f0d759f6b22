"""What an image's labels say is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.datasets.labels import LabelFormat, label_path, read_labels
from yolo_slim.runtime.sources import read_image


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The labelled objects of one image."""

    boxes: NDArray[np.float64]
    """(N, 4) xyxy in the image's own pixels."""
    class_ids: NDArray[np.int64]
    """(N,)."""


def read_truths(images: Sequence[Path], label_format: LabelFormat) -> list[Truth]:
    """Read the labels of images that may repeat."""
    found = {image: read_truth(image, label_format) for image in dict.fromkeys(images)}
    return [found[image] for image in images]


def read_truth(image: Path, label_format: LabelFormat) -> Truth:
    """Read an image's labels, converted to its own pixels.

    Raises:
        SlimError: labels that Ultralytics wouldn't accept.
    """
    # Decoded, because labels mean the image as its EXIF orientation turns it, and read_image applies that.
    height, width = read_image(image, convert_channels=True).shape[:2]
    labels = read_labels(label_path(image), label_format)
    shares = labels.rows.astype(np.float64)
    centre, half = shares[:, 1:3] * (width, height), shares[:, 3:5] * (width, height) / 2
    return Truth(boxes=np.concatenate([centre - half, centre + half], axis=1), class_ids=labels.class_ids)
