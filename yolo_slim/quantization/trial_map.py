"""mAP of graphs that are still in memory, on a few training images, to decide which layers stay float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_slim.datasets.description import Dataset
from yolo_slim.measuring.accuracy import read_truths, score
from yolo_slim.quantization.session import raw_outputs
from yolo_slim.runtime.decode import VAL, decode
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image


class TrialMap:
    """Measures graphs one after another on the same images, which are read once."""

    def __init__(self, images: Sequence[Path], dataset: Dataset, *, layout: str, imgsz: int) -> None:
        letterbox = Letterbox((imgsz, imgsz))
        self._blobs, self._geometries = [], []
        for path in images:
            blob, geometry = letterbox(read_image(path, convert_channels=True))
            self._blobs.append(blob.copy())  # the letterbox reuses its buffer
            self._geometries.append(geometry)
        self._truths = read_truths(images, dataset.label_format())
        self._names, self._layout = dataset.names, layout

    def map50_95(self, model: Any) -> float:
        """The mAP50-95 of a ``ModelProto``."""
        raw = raw_outputs(model, self._blobs)
        found = [decode(output, self._layout, geo, VAL) for output, geo in zip(raw, self._geometries, strict=True)]
        return score(self._truths, found, self._names).map50_95
