"""The images that int8 ranges come from: chosen once from the training split, frozen, shared by all targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import LabelFormat, label_path, read_labels
from yolo_slim.errors import SlimError
from yolo_slim.files import sha256

MIN_IMAGES = 32
"""With fewer, many values of other images are outside the ranges."""
MIN_PER_CLASS = 4
"""Images of each class that are chosen first, rarest class first, as far as the split has them."""
JUDGING_SPLITS = ("val", "test")
"""Splits that accuracy is measured on: calibrating on their images would flatter int8."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A frozen choice of images."""

    images: tuple[Path, ...]
    """Training images that ranges are measured on."""
    check: tuple[Path, ...]
    """Other training images, on which mAP decides which layers stay float; empty when the split is too small."""
    imgsz: int
    """Input side, pixels: ranges of another size differ."""
    seed: int


def choose(dataset: Dataset, *, count: int, check: int, imgsz: int, seed: int) -> Calibration:
    """Choose images of the training split that no judging split has: every class first, then at random.

    An image that the split repeats counts once: the ranges of its activations are the same each time.

    Raises:
        SlimError: no training images, or fewer than :data:`MIN_IMAGES` are left.
    """
    train = list(dict.fromkeys(dataset.splits.get("train", [])))
    shared = set(judged_images(dataset, train))
    free = [path for path in train if path not in shared]
    _require_enough(dataset, len(train), len(free))
    # Ranges need images more than the choice of float layers does, so at most a quarter is spared for that.
    spared = min(check, len(free) // 4, len(free) - MIN_IMAGES)
    order = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    ranked = _classes_first(order, dataset.label_format())
    taken = min(count, len(free) - spared)
    # Sorted by path, so that equal choices give equal files.
    return Calibration(
        images=tuple(sorted(ranked[:taken], key=str)),
        check=tuple(sorted(ranked[taken : taken + spared], key=str)),
        imgsz=imgsz,
        seed=seed,
    )


def judged_images(dataset: Dataset, images: Sequence[Path]) -> dict[Path, str]:
    """Images that are also in a judging split, as the same file or with the same bytes, and where."""
    judged = {path: split for split in JUDGING_SPLITS for path in dataset.splits.get(split, [])}
    by_file = {path.resolve(): split for path, split in judged.items()}
    # Only files of equal size are hashed: most images need no reading.
    by_size: dict[int, list[Path]] = {}
    for path in judged:
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)
    found = {}
    for image in images:
        same = [path for path in by_size.get(image.stat().st_size, []) if sha256(path) == sha256(image)]
        if image.resolve() in by_file:
            found[image] = by_file[image.resolve()]
        elif same:
            found[image] = f"{judged[same[0]]} as {same[0].name}"
    return found


def _classes_first(images: list[Path], label_format: LabelFormat) -> list[Path]:
    """All images, those first that give every class its :data:`MIN_PER_CLASS`, the rarest class in front."""
    images_of: dict[int, list[Path]] = {}
    classes: dict[Path, set[int]] = {}
    for image in images:
        classes[image] = set(read_labels(label_path(image), label_format).class_ids.tolist())
        for class_id in classes[image]:
            images_of.setdefault(class_id, []).append(image)
    first: dict[Path, None] = {}
    # The rarest class first: its images often show common classes too, which then need fewer of their own.
    for class_id in sorted(images_of, key=lambda key: (len(images_of[key]), key)):
        have = sum(class_id in classes[image] for image in first)
        fresh = [image for image in images_of[class_id] if image not in first]
        first |= dict.fromkeys(fresh[: max(MIN_PER_CLASS - have, 0)])
    return [*first, *[image for image in images if image not in first]]


def _require_enough(dataset: Dataset, train: int, free: int) -> None:
    """Raise unless enough training images are left without those of the judging splits."""
    if free >= MIN_IMAGES:
        return
    if not train:
        raise SlimError(
            f"{dataset.yaml}: no training images to calibrate int8 on.",
            remedy=f"Declare a train split with at least {MIN_IMAGES} images, or build without int8.",
        )
    shared = f"; {train - free} of its {train} images are also in val or test" if train > free else ""
    repeats = len(dataset.splits["train"]) - train
    shared += f"; it lists {repeats} again, which count once" if repeats else ""
    raise SlimError(
        f"{dataset.yaml}: {free} training images to calibrate int8 on, at least {MIN_IMAGES} are needed{shared}.",
        remedy="Add training images that val and test don't have, or build without int8.",
        topic="too-few-images-for-int8",
    )
