"""A folder of links for Ultralytics, which otherwise writes caches and repaired images beside the user's files."""

from __future__ import annotations

from pathlib import Path

import yaml

from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import label_path
from yolo_slim.errors import os_errors_explained
from yolo_slim.files import fitted_name, fresh_folder, write_text


def write_absolute_yaml(dataset: Dataset, out: Path) -> Path:
    """Write a ``data.yaml`` with absolute paths; return what to give Ultralytics as ``data``.

    Beside it, in ``<stem>_links/``, each split becomes a folder of links to the user's images and labels, in the same
    order. Ultralytics writes its caches and its repaired copies of images there: the user's folders don't change and
    may be read-only. A data set in class folders needs no ``data.yaml``: the folder of links itself is returned.
    """
    out = out.absolute()
    links = out.with_name(f"{out.stem}_links")
    link = _link_classes if dataset.in_class_folders else _link_split
    with os_errors_explained(links), fresh_folder(links) as folder:
        for split, images in dataset.splits.items():
            link(folder, split, images)
    if dataset.in_class_folders:
        return links
    used = [split for split in dataset.splits if dataset.has(split)]
    described = {"path": str(links), **{split: f"images/{split}" for split in used}, "names": dataset.names}
    described |= dataset.extra
    with os_errors_explained(out):
        write_text(out, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
    return out


def _link_classes(folder: Path, split: str, images: list[Path]) -> None:
    """Link a split's files into folders named after their classes."""
    for number, image in enumerate(images):
        # The number comes first: sorted by name, the links have the order of the images again (training/batches.py).
        link = folder / split / image.parent.name / f"{_link_stem(number, image)}{image.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image.absolute())


def _link_stem(number: int, image: Path) -> str:
    """The name that an image's link and its label's share, so that Ultralytics pairs them; a long one is shortened."""
    # The number keeps Ultralytics' order, and keeps files with equal names in different folders apart.
    return fitted_name(image.stem, before=f"{number:06d}_")


def _link_split(folder: Path, split: str, images: list[Path]) -> None:
    """Link a split's images and labels."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for number, image in enumerate(images):
        name = _link_stem(number, image)
        # Absolute, because a relative target counts from the link's folder.
        (folder / "images" / split / f"{name}{image.suffix}").symlink_to(image.absolute())
        label = label_path(image)
        if label.is_file():
            (folder / "labels" / split / f"{name}.txt").symlink_to(label.absolute())
