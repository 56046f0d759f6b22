"""A folder of links for Ultralytics, which otherwise writes caches and repaired images beside the user's files."""

from __future__ import annotations

from pathlib import Path

import yaml

from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import label_path
from yolo_slim.errors import os_errors_explained
from yolo_slim.files import fresh_folder, write_text


def write_absolute_yaml(dataset: Dataset, out: Path) -> Path:
    """Write a ``data.yaml`` that Ultralytics reads the same way from everywhere; return what to give as its ``data``.

    Beside it, in ``<stem>_links/``, each split becomes a folder of links to the user's images and labels, in the same
    order. Ultralytics writes its caches, and its repaired copies of images, there: the user's folders stay as they are
    and may be read-only. For class folders, that folder of links is all there is.
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
    described |= dataset.carried
    with os_errors_explained(out):
        write_text(out, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
    return out


def _link_classes(folder: Path, split: str, images: list[Path]) -> None:
    """Link a split's files into class folders, the class an image's folder names."""
    for number, image in enumerate(images):
        link = folder / split / image.parent.name / f"{number:06d}_{image.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image.absolute())


def _link_split(folder: Path, split: str, images: list[Path]) -> None:
    """Link a split's files; the number keeps Ultralytics' order and files of one name apart."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for number, image in enumerate(images):
        name = f"{number:06d}_{image.stem}"
        (folder / "images" / split / f"{name}{image.suffix}").symlink_to(image.absolute())
        label = label_path(image)
        if label.is_file():
            (folder / "labels" / split / f"{name}.txt").symlink_to(label.absolute())
