"""Whether the control is worth comparing with, before anything is made of it.

A control that finds nothing has nothing to lose: every drop would be zero and every gate would pass. Labels that
aren't read as Ultralytics reads them make every figure wrong. Both are found here, on a few images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.record import Record
from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.errors import SlimError
from yolo_slim.measuring.doubts import doubts
from yolo_slim.measuring.images import choose_split, scored_images, spread
from yolo_slim.measuring.truth import read_truths
from yolo_slim.progress import Progress

if TYPE_CHECKING:
    from yolo_slim.models.checkpoint import Checkpoint
    from yolo_slim.runtime.decode import Detections

IMAGES, MORE_IMAGES = 48, 400
"""Most images that the control is checked on, which takes seconds; and most where these seem wrong, maybe by chance."""
NEAR_ZERO = 0.01
"""A control below this mAP50-95 ends the run: no drop can be measured from it."""
MOST_DIFFERENCE = 0.02
"""Largest difference of the two mAPs: Ultralytics rounds other sides of letterboxes.

Measured on 48 photos with small objects at 320 px: .002 to .014; on 200 of them: at most .002.
"""
BY_ONE_IMAGE = 0.65
"""Largest difference on one image, shared by all: a box that reaches one IoU threshold more counts much among few.

Measured on 1000 random choices of 1 to 25 photos at 160 px: at most .64 divided by the number of images. A fifth of
the choices of up to 5 photos differed by more than .02.
"""


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
    doubts: tuple[str, ...] = ()
    """Where the labels contradict what the control surely finds."""

    def as_text(self) -> str:
        """One line for people."""
        trained = self.trained_map50_95
        recorded = "" if trained is None else f"; its training recorded {trained:.4f} on its validation images"
        # The one difference on purpose (docs/data.md).
        why = " (it rounds scaled sides up)" if f"{self.map50_95:.4f}" != f"{self.ultralytics_map50_95:.4f}" else ""
        return (
            f"control: quick check on {self.images} {self.split} images: mAP50-95 {self.map50_95:.4f}, "
            f"Ultralytics' validator {self.ultralytics_map50_95:.4f}{why}{recorded}"
        )


def allowed_difference(images: int) -> float:
    """How far the two mAPs of so many images may be apart."""
    return max(MOST_DIFFERENCE, BY_ONE_IMAGE / images)


@dataclass(frozen=True, kw_only=True)
class ControlChecker:
    """What the control is checked with."""

    control: Checkpoint
    dataset: Dataset
    config: ValidateConfig
    imgsz: int
    """Input side, pixels."""
    end2end: bool
    """Check the one-to-one head, as it is exported."""
    progress: Progress

    def check(self) -> ControlCheck:
        """Score the control on a few labelled images of the split that is scored later, on more if they seem wrong.

        Raises:
            SlimError: it finds almost nothing, or Ultralytics' validator finds another mAP on the same images.
        """
        found = self._scored(IMAGES)
        if self._problem(found):
            found = self._scored(MORE_IMAGES)
        if problem := self._problem(found):
            raise problem
        return found

    def _scored(self, most: int) -> ControlCheck:
        """Score on up to ``most`` images in both ways."""
        from yolo_slim.measuring.accuracy import score

        with tempfile.TemporaryDirectory(prefix="yolo-slim-control-") as name:
            split = choose_split(self.dataset, self.config)
            chosen = self._sample(split, most)
            images = scored_images(chosen, ValidateConfig(split="val"), Path(name))
            found = self._detected(images.paths)
            return ControlCheck(
                split=split,
                images=len(images.paths),
                map50_95=score(images.truths, found, self.dataset.names).map50_95,
                ultralytics_map50_95=self._ultralytics(chosen, Path(name)),
                trained_map50_95=self.control.trained_map50_95,
                doubts=tuple(self._doubts(split, most, dict(zip(images.paths, found, strict=True)))),
            )

    def _doubts(self, split: str, most: int, found: dict[Path, Detections]) -> list[str]:
        """What contradicts the labels of images spread over the split, those without labels too."""
        paths = spread(self._scored_paths(split), most)
        new = [path for path in dict.fromkeys(paths) if path not in found]
        found |= zip(new, self._detected(new), strict=True)
        truths = read_truths(paths, self.dataset.label_format())
        return doubts(truths, [found[path] for path in paths], self.dataset.names)

    def _scored_paths(self, split: str) -> list[Path]:
        """The images that every rung is scored on."""
        return list(self.dataset.splits[split][: self.config.max_images or None])

    def _sample(self, split: str, most: int) -> Dataset:
        """A data set of labelled images, spread over a split: its first ones may be of one scene."""
        labelled = [path for path in self._scored_paths(split) if has_labels(path)]
        images = spread(labelled, most)
        # Ultralytics' validator asks for a training split too.
        return replace(self.dataset, splits={"train": images, "val": images}, problems={})

    def _detected(self, images: Sequence[Path]) -> list[Detections]:
        """Detect with the pre- and post-processing that every rung is scored with."""
        from yolo_slim.measuring.predict import detect_all, torch_infer
        from yolo_slim.models.ultralytics import use_all_cores

        use_all_cores()
        return detect_all(
            images,
            torch_infer(self.control.model, end2end=self.end2end),
            layout="end2end" if self.end2end else "one2many",
            imgsz=self.imgsz,
            progress=self.progress,
            text="control: detect on a few images",
        )

    def _ultralytics(self, dataset: Dataset, folder: Path) -> float:
        """Score the same weights on the same images as ``yolo val rect=False`` does."""
        from yolo_slim.models.ultralytics import log_to, use_all_cores

        # A name of our own: Ultralytics removes apostrophes from the path that it is given.
        link = folder / "control.pt"
        link.symlink_to(self.control.path.absolute())
        data = write_absolute_yaml(dataset, folder / "val.yaml")
        with log_to(folder / "val.log"):
            from ultralytics import YOLO

            metrics = YOLO(link).val(
                # Its name for the one-to-one head, which needs no NMS; None: the one-to-many head.
                nms=False if self.end2end else None,
                data=str(data), split="val", imgsz=self.imgsz, rect=False, batch=8, device="cpu",
                plots=False, verbose=False, workers=0, project=str(folder / "val"),
            )  # fmt: skip
        # Ultralytics' choice of a device sets another number of threads.
        use_all_cores()
        return float(metrics.box.map)

    def _problem(self, found: ControlCheck) -> SlimError | None:
        """What makes every later figure meaningless: it isn't Ultralytics' figure, or nothing can be lost from it."""
        # Not `>`: NaN must not agree.
        if not abs(found.map50_95 - found.ultralytics_map50_95) <= allowed_difference(found.images):
            return SlimError(
                f"yolo_slim and Ultralytics score the same weights differently on the same {found.images} images of "
                f"{self.dataset.yaml.name}: mAP50-95 {found.map50_95:.4f} and {found.ultralytics_map50_95:.4f}.",
                remedy="Images or labels are read in two ways, so no result would mean anything. Look for what is "
                "unusual in the data set (columns, formats, sizes), and report it.",
                topic="two-scores-differ",
            )
        return None if found.map50_95 >= NEAR_ZERO else self._finds_nothing(found)

    def _finds_nothing(self, found: ControlCheck) -> SlimError:
        """Make the error of a control that nothing can be lost from."""
        trained = found.trained_map50_95
        return SlimError(
            f"{self.control.path} finds almost nothing: mAP50-95 {found.map50_95:.4f} on {found.images} {found.split} "
            "images. Nothing can be lost from that, so no result would prove anything.",
            culprits=[] if trained is None else [f"its own training recorded {trained:.4f}"],
            remedy="Give the model and the data that it was trained on: the same classes in the same order, labels of "
            f"these images, and the input side of the training (imgsz is {self.imgsz}).",
            topic="the-model-finds-almost-nothing",
        )
