"""The images that int8 ranges come from: chosen once from the training split, frozen, shared by all targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image

SCHEMA = 1
MIN_IMAGES = 32
"""Fewer make ranges that the next images leave."""
MIN_PER_CLASS = 4
"""Images of each class that are taken first, rarest class first, as far as the split has them."""
JUDGED = ("val", "test")
"""Splits that judge the result, so that no image of theirs may shape it."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A frozen choice of images."""

    images: tuple[Path, ...]
    """Training images that ranges are measured on."""
    check: tuple[Path, ...]
    """Other training images, on which layers are tried; empty when the split is too small to spare any."""
    imgsz: int
    """Input side, pixels: ranges of another size differ."""
    seed: int


def choose(dataset: Dataset, *, count: int, check: int, imgsz: int, seed: int) -> Calibration:
    """Choose images of the training split that no judging split has: every class first, then at random.

    Raises:
        SlimError: no training images, or fewer than :data:`MIN_IMAGES` are left.
    """
    train = dataset.splits.get("train", [])
    shared = set(judged_images(dataset, train))
    free = [path for path in train if path not in shared]
    _require_enough(dataset, len(train), len(free))
    spared = min(check, len(free) // 4, len(free) - MIN_IMAGES)
    order = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    ranked = _classes_first(order)
    taken = min(count, len(free) - spared)
    return Calibration(
        images=tuple(sorted(ranked[:taken], key=str)),
        check=tuple(sorted(ranked[taken : taken + spared], key=str)),
        imgsz=imgsz,
        seed=seed,
    )


def save(calibration: Calibration, dataset: Dataset, path: Path) -> None:
    """Write ``calibration.json``: names from the data set's root, and the SHA-256 of every image."""

    def entries(images: Sequence[Path]) -> list[dict[str, str]]:
        return [{"image": _name(dataset, image), "sha256": sha256(image)} for image in images]

    value = {
        "schema": SCHEMA,
        "split": "train",
        "imgsz": calibration.imgsz,
        "seed": calibration.seed,
        "images": entries(calibration.images),
        "check": entries(calibration.check),
    }
    write_json(path, value)


def load(path: Path, dataset: Dataset, *, imgsz: int) -> Calibration:
    """Read a frozen choice and verify all of it.

    Raises:
        SlimError: not a calibration file, another input side, too few images, images that are gone or changed, or that
            also stand in a judging split.
    """
    value = _read(path)
    if value["imgsz"] != imgsz:
        raise SlimError(
            f"{path} was made for imgsz {value['imgsz']}, not {imgsz}: activation ranges differ between sizes.",
            remedy="Leave the file out, and a new one is made; or set IMGSZ to its size.",
        )
    if len(value["images"]) < MIN_IMAGES:
        raise SlimError(
            f"{path} lists {len(value['images'])} images; int8 ranges need at least {MIN_IMAGES}.",
            remedy="Leave the file out, and a new one is made from the training split.",
        )
    entries = [*value["images"], *value["check"]]
    problems = [problem for entry in entries if (problem := _changed(dataset, entry))]
    if problems:
        raise SlimError(
            f"{path}: {len(problems)} of its {len(entries)} images aren't what they were.",
            culprits=problems,
            remedy="Restore them, or leave the file out, and a new one is made.",
        )
    files = [dataset.root / entry["image"] for entry in entries]
    _refuse_judged(path, dataset, files)
    count = len(value["images"])
    return Calibration(images=tuple(files[:count]), check=tuple(files[count:]), imgsz=imgsz, seed=value["seed"])


def judged_images(dataset: Dataset, images: Sequence[Path]) -> dict[Path, str]:
    """Return which images also stand in a judging split, as the same file or with the same bytes, and where."""
    judged = {path: split for split in JUDGED for path in dataset.splits.get(split, [])}
    by_file = {path.resolve(): split for path, split in judged.items()}
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


def blobs(images: Sequence[Path], imgsz: int) -> Iterator[NDArray[np.float32]]:
    """Yield each image as the model's input (1, 3, imgsz, imgsz); a blob is valid until the next one."""
    letterbox = Letterbox((imgsz, imgsz))
    for path in images:
        yield letterbox(read_image(path, convert_channels=True))[0]


def _classes_first(images: list[Path]) -> list[Path]:
    """Return all images, those first that give every class its :data:`MIN_PER_CLASS`, the rarest class in front."""
    holders: dict[int, list[Path]] = {}
    classes: dict[Path, set[int]] = {}
    for image in images:
        classes[image] = {int(row[0]) for row in read_labels(label_path(image))}
        for class_id in classes[image]:
            holders.setdefault(class_id, []).append(image)
    first: dict[Path, None] = {}
    for class_id in sorted(holders, key=lambda key: (len(holders[key]), key)):
        have = sum(class_id in classes[image] for image in first)
        fresh = [image for image in holders[class_id] if image not in first]
        first |= dict.fromkeys(fresh[: max(MIN_PER_CLASS - have, 0)])
    return [*first, *[image for image in images if image not in first]]


def _require_enough(dataset: Dataset, train: int, free: int) -> None:
    """Raise unless enough training images are left once the judging splits' are taken out."""
    if free >= MIN_IMAGES:
        return
    if not train:
        raise SlimError(
            f"{dataset.yaml}: no training images to calibrate int8 on.",
            remedy=f"Declare a train split with at least {MIN_IMAGES} images, or build without int8.",
        )
    shared = f"; {train - free} of its {train} images also stand in val or test" if train > free else ""
    raise SlimError(
        f"{dataset.yaml}: {free} training images to calibrate int8 on, at least {MIN_IMAGES} are needed{shared}.",
        remedy="Add training images that val and test don't have, or build without int8.",
    )


def _refuse_judged(path: Path, dataset: Dataset, files: list[Path]) -> None:
    """Raise when an image also judges the result."""
    judged = judged_images(dataset, files)
    if judged:
        raise SlimError(
            f"{path}: {len(judged)} of its images also stand in val or test; calibrating on them would flatter int8.",
            culprits=[f"{image.name}: in {split}" for image, split in judged.items()],
            remedy="Leave the file out, and a new one is made from the training split.",
        )


def _name(dataset: Dataset, image: Path) -> str:
    """Return an image's path from the data set's root, or its whole path when it lies elsewhere."""
    # Lines of a list may be relative to the working folder.
    image = image.absolute()
    return image.relative_to(dataset.root).as_posix() if image.is_relative_to(dataset.root) else image.as_posix()


def _changed(dataset: Dataset, entry: dict[str, str]) -> str:
    """Return what is wrong with a listed image, or an empty string."""
    image = dataset.root / entry["image"]
    if not image.is_file():
        return f"{entry['image']}: no such file"
    return "" if sha256(image) == entry["sha256"] else f"{entry['image']}: other bytes than were recorded"


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON value of a calibration file whose keys and types are right."""
    remedy = "Leave the file out, and a new one is made."
    try:
        value = read_json(path)
        whole = (
            isinstance(value["imgsz"], int)
            and isinstance(value["seed"], int)
            and all(isinstance(e["image"] + e["sha256"], str) for key in ("images", "check") for e in value[key])
        )
    except FileNotFoundError:
        raise SlimError(f"Calibration file not found: {path}", remedy=remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        raise SlimError(f"{path} isn't a calibration file: {error!r}", remedy=remedy) from None
    if not whole or value.get("schema") != SCHEMA:
        raise SlimError(f"{path} isn't a calibration file of schema {SCHEMA}.", remedy=remedy)
    return dict(value)
