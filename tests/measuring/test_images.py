"""Which classes the scored images leave out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.measuring.images import scored_images


def _data(folder: Path, labels: dict[str, str]) -> Path:
    """Write a data set of three classes with one image a split, and return its description."""
    for split, text in labels.items():
        image, label = folder / "images" / split / "a.png", folder / "labels" / split / "a.txt"
        for path in (image, label):
            path.parent.mkdir(parents=True)
        cv2.imwrite(str(image), np.full((32, 32, 3), 90, np.uint8))
        label.write_text(text)
    path = folder / "data.yaml"
    splits = "".join(f"{split}: images/{split}\n" for split in labels)
    path.write_text(f"path: {folder}\n{splits}names: [red, green, blue]\n")
    return path


def test_unlabelled_classes(tmp_path: Path) -> None:
    """Every class without a label in the scored images is told, whether another split labels it or none does."""
    red, both = "0 .5 .5 .2 .2\n", "0 .5 .5 .2 .2\n1 .3 .3 .2 .2\n"
    every = both + "2 .7 .7 .2 .2\n"
    for name, val, expected in [("one", red, [1, 2]), ("two", both, [2]), ("all", every, [])]:
        dataset = load_dataset(_data(tmp_path / name, {"train": both, "val": val}))
        images = scored_images(dataset, ValidateConfig(split="val"), tmp_path / f"out-{name}")
        assert images.unlabelled(dataset.names) == tuple(expected)
