"""mAP of one detector by our own scoring and by ``yolo val``, on the same data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.truth_sets import IMGSZ
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.measuring.accuracy import Truth, read_truths, score
from yolo_slim.measuring.predict import detect_all, torch_infer
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.progress import Silent
from yolo_slim.runtime.decode import Detections

Read = Callable[[Sequence[Path], Dataset], list[Truth]]


def as_training_reads(images: Sequence[Path], dataset: Dataset) -> list[Truth]:
    """Read labels as all of yolo_slim does."""
    return read_truths(images, dataset.label_format())


class Referee:
    """Scores one checkpoint, on validation splits."""

    def __init__(self, weights: Path) -> None:
        prepare_ultralytics()
        from ultralytics import YOLO

        self._infer = torch_infer(checkpoint.load(weights).model, end2end=False)
        self._yolo: Any = YOLO(weights)
        self._found: dict[Path, Detections] = {}

    def ours(self, data: Path, read: Read = as_training_reads, *, each_once: bool = False) -> float | None:
        """Our mAP50-95, or None where the data check refuses the set; ``each_once`` leaves out repeated images."""
        dataset = load_dataset(data)
        try:
            check_dataset(dataset, need=("val",))
        except SlimError:
            return None
        images = dataset.splits["val"]
        images = list(dict.fromkeys(images)) if each_once else images
        return score(read(images, dataset), self._detect(images), dataset.names).map50_95

    def _detect(self, images: Sequence[Path]) -> list[Detections]:
        """What is in images that may repeat; each one is looked at once."""
        new = [image for image in dict.fromkeys(images) if image not in self._found]
        found = detect_all(new, self._infer, layout="one2many", imgsz=IMGSZ, progress=Silent(), text="")
        self._found |= zip(new, found, strict=True)
        return [self._found[image] for image in images]

    def theirs(self, data: Path) -> float:
        """The mAP50-95 of ``yolo val rect=False``."""
        arguments = {"imgsz": IMGSZ, "conf": 0.001, "iou": 0.7, "rect": False, "workers": 0, "plots": False}
        project = str(data.parent / "runs")
        return float(self._yolo.val(data=str(data), batch=8, verbose=False, project=project, **arguments).box.map)
