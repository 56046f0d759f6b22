"""Whether the control is worth comparing with, before anything is made of it.

A control that finds nothing has nothing to lose: every drop would be zero and every gate would pass. Labels that are
read in another way than Ultralytics reads them make every figure wrong alike. Both are found here, on a few images.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.record import Record
from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.errors import SlimError
from yolo_slim.measuring.images import ScoredImages, choose_split, scored_images
from yolo_slim.progress import Progress

if TYPE_CHECKING:
    from yolo_slim.models.checkpoint import Checkpoint

IMAGES = 48
"""Most images that the control is checked on: seconds on a CPU, and enough to tell labels that are read wrongly."""
NEAR_ZERO = 0.01
"""A control below this mAP50-95 ends the run: no drop can be measured from it."""
MOST_DIFFERENCE = 0.02
"""Largest difference of the two mAPs: Ultralytics' own rounding of letterboxes moves a few boxes by a pixel."""


class ControlCheck(Record):
    """The control's accuracy on a few images, as yolo_slim and as Ultralytics measure it."""

    split: str
    """Split that the images are of."""
    images: int
    """Number of images."""
    map50_95: float
    """mAP50-95 by yolo_slim's own pre- and post-processing."""
    ultralytics_map50_95: float
    """mAP50-95 by ``YOLO(...).val(rect=False)`` on the same images."""
    trained_map50_95: float | None
    """What the checkpoint records of its own training, on that training's validation images; null: nothing."""

    def as_text(self) -> str:
        """One line for people."""
        trained = "" if self.trained_map50_95 is None else f"; its training recorded {self.trained_map50_95:.4f}"
        return (
            f"control: mAP50-95 {self.map50_95:.4f} on {self.images} {self.split} images, "
            f"Ultralytics' validator {self.ultralytics_map50_95:.4f}{trained}"
        )


def check_control(
    control: Checkpoint, dataset: Dataset, config: ValidateConfig, *, imgsz: int, end2end: bool, progress: Progress
) -> ControlCheck:
    """Score the control on up to :data:`IMAGES` labelled images of the split that is scored later.

    Raises:
        SlimError: it finds almost nothing, or Ultralytics' validator finds another mAP on the same images.
    """
    with tempfile.TemporaryDirectory(prefix="yolo-slim-control-") as name:
        split = choose_split(dataset, config)
        chosen = _sample(dataset, split, config.max_images)
        images = scored_images(chosen, config.model_copy(update={"split": "val", "max_images": 0}), Path(name))
        found = ControlCheck(
            split=split,
            images=len(images.paths),
            map50_95=_ours(control, images, dataset.names, imgsz=imgsz, end2end=end2end, progress=progress),
            ultralytics_map50_95=_ultralytics(control.path, chosen, Path(name), imgsz=imgsz, end2end=end2end),
            trained_map50_95=control.trained_map50_95,
        )
    _require_agreement(found, dataset)
    _require_finds(found, control.path, imgsz)
    return found


def _sample(dataset: Dataset, split: str, most: int) -> Dataset:
    """A data set of labelled images, spread over a split: its first ones may be of one scene."""
    labelled = [path for path in dataset.splits[split][: most or None] if has_labels(path)]
    images = labelled[:: max(len(labelled) // IMAGES, 1)][:IMAGES]
    # Ultralytics' validator asks for a training split too.
    return replace(dataset, splits={"train": images, "val": images}, problems={})


def _ours(
    control: Checkpoint, images: ScoredImages, names: dict[int, str], *, imgsz: int, end2end: bool, progress: Progress
) -> float:
    """Score with the pre- and post-processing that every rung is scored with."""
    from yolo_slim.measuring.accuracy import score
    from yolo_slim.measuring.predict import detect_all, torch_infer
    from yolo_slim.models.ultralytics import use_all_cores

    use_all_cores()
    found = detect_all(
        images.paths,
        torch_infer(control.model, end2end=end2end),
        layout="end2end" if end2end else "one2many",
        imgsz=imgsz,
        progress=progress,
        text="control: detect on a few images",
    )
    return score(images.truths, found, names).map50_95


def _ultralytics(weights: Path, dataset: Dataset, folder: Path, *, imgsz: int, end2end: bool) -> float:
    """Score the same weights on the same images as ``yolo val rect=False`` does."""
    from yolo_slim.models.ultralytics import log_to, use_all_cores

    # A name of our own: Ultralytics removes apostrophes from the path that it is given.
    link = folder / "control.pt"
    link.symlink_to(weights.absolute())
    data = write_absolute_yaml(dataset, folder / "val.yaml")
    with log_to(folder / "val.log"):
        from ultralytics import YOLO

        metrics = YOLO(link).val(
            # Its name for the one-to-one head, which needs no NMS; None: the one-to-many head.
            nms=False if end2end else None,
            data=str(data), split="val", imgsz=imgsz, rect=False, batch=8, device="cpu",
            plots=False, verbose=False, workers=0, project=str(folder / "val"),
        )  # fmt: skip
    # Ultralytics' choice of a device sets another number of threads.
    use_all_cores()
    return float(metrics.box.map)


def _require_agreement(found: ControlCheck, dataset: Dataset) -> None:
    """Refuse figures that don't mean what Ultralytics' mean; not written with ``>``, so that NaN is refused too."""
    if not abs(found.map50_95 - found.ultralytics_map50_95) <= MOST_DIFFERENCE:
        raise SlimError(
            f"yolo_slim and Ultralytics score the same weights differently on the same {found.images} images of "
            f"{dataset.yaml.name}: mAP50-95 {found.map50_95:.4f} and {found.ultralytics_map50_95:.4f}.",
            remedy="Images or labels are read in two ways, so no result would mean anything. Look for what is unusual "
            "in the data set (columns, formats, sizes), and report it.",
        )


def _require_finds(found: ControlCheck, weights: Path, imgsz: int) -> None:
    """Refuse a control that nothing can be lost from."""
    if found.map50_95 >= NEAR_ZERO:
        return
    trained = found.trained_map50_95
    raise SlimError(
        f"{weights} finds almost nothing: mAP50-95 {found.map50_95:.4f} on {found.images} {found.split} images. "
        "Nothing can be lost from that, so no result would prove anything.",
        culprits=[] if trained is None else [f"its own training recorded {trained:.4f}"],
        remedy="Give the model and the data that it was trained on: the same classes in the same order, labels of "
        f"these images, and the input side of the training (imgsz is {imgsz}).",
    )
