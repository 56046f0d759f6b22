"""The validation images that exported graphs are scored and timed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.datasets.description import Dataset
from yolo_slim.errors import SlimError
from yolo_slim.measuring.accuracy import score
from yolo_slim.measuring.predict import detect_all, onnx_infer
from yolo_slim.measuring.truth import Truth, read_truths
from yolo_slim.models.exported import layout_of
from yolo_slim.progress import Silent
from yolo_slim.runtime.paired import IMAGES

SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class ValidationImages:
    """The images that every network is scored on, with what is in them."""

    paths: Sequence[Path]
    truths: Sequence[Truth]
    names: dict[int, str]

    @classmethod
    def of(cls, dataset: Dataset, limit: int) -> ValidationImages:
        """Take the first ``limit`` validation images; 0 takes all.

        Raises:
            SlimError: no validation images.
        """
        paths = dataset.splits.get(SPLIT, [])[: limit or None]
        if not paths:
            raise SlimError(f"{dataset.yaml}: the split '{SPLIT}' has no images.", remedy="Add validation images.")
        return cls(paths=paths, truths=read_truths(paths, dataset.label_format()), names=dataset.names)

    def map50_95(self, onnx: Path) -> float:
        """Score an exported graph."""
        layout = layout_of(onnx)
        found = detect_all(
            self.paths, onnx_infer(onnx), layout=layout.layout, imgsz=layout.imgsz[0], progress=Silent(), text=""
        )
        return score(self.truths, found, self.names).map50_95

    def link_timed(self, folder: Path) -> Path:
        """Link those that networks are timed on into a new folder, in their order."""
        folder.mkdir()
        for number, path in enumerate(self.paths[:IMAGES]):
            # One digit keeps the order of sorted names: there are at most IMAGES (8).
            (folder / f"{number}_{path.name}").symlink_to(path.absolute())
        return folder
