"""Training images as batches for scoring channels and re-estimating statistics: not augmented, seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import LabelFormat, label_path, read_labels
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.runtime.letterbox import Geometry, Letterbox
from yolo_slim.runtime.sources import read_image

Batch = dict[str, torch.Tensor]
"""An Ultralytics training batch: ``img`` (N, 3, H, W) float32 in [0, 1], ``cls``, ``bboxes``, ``batch_idx``."""


def choose(images: list[Path], count: int, seed: int) -> list[Path]:
    """Choose ``count`` images at random, or all of them; the same seed chooses the same."""
    order = np.random.default_rng(seed).permutation(len(images))[:count]
    return [images[i] for i in order]


def batches(images: list[Path], imgsz: int, batch: int, label_format: LabelFormat) -> Iterator[Batch]:
    """Ultralytics training batches: ``img`` (N, 3, imgsz, imgsz) float32 in [0, 1] RGB, ``cls`` (boxes, 1),
    ``bboxes`` (boxes, 4) xywh as shares of the input, ``batch_idx`` (boxes,).

    Raises:
        SlimError: an image or labels that can't be read.
    """
    letterbox = Letterbox((imgsz, imgsz))
    for start in range(0, len(images), batch):
        loaded = [_load(path, letterbox, imgsz, label_format) for path in images[start : start + batch]]
        counts = [len(labels) for _, labels in loaded]
        labels = np.concatenate([labels for _, labels in loaded]).astype(np.float32)
        yield {
            "img": torch.from_numpy(np.concatenate([blob for blob, _ in loaded])),
            "cls": torch.from_numpy(labels[:, :1]),
            "bboxes": torch.from_numpy(labels[:, 1:]),
            "batch_idx": torch.from_numpy(np.repeat(np.arange(len(loaded)), counts).astype(np.float32)),
        }


def _load(path: Path, letterbox: Letterbox, imgsz: int, label_format: LabelFormat) -> tuple[np.ndarray, np.ndarray]:
    """An image as (1, 3, imgsz, imgsz) and its labels (n, 5) as shares of that input."""
    blob, geometry = letterbox(read_image(path, convert_channels=True))
    # The letterbox fills the same array again for the next image.
    return blob.copy(), _move(read_labels(label_path(path), label_format).rows, geometry, imgsz)


def _move(labels: np.ndarray, geometry: Geometry, imgsz: int) -> np.ndarray:
    """Labels as shares of the letterboxed input instead of the image."""
    height, width = geometry.resized_hw
    scale = np.array([width, height, width, height]) / imgsz
    offset = np.array([geometry.left, geometry.top, 0, 0]) / imgsz
    return np.concatenate([labels[:, :1], labels[:, 1:] * scale + offset], axis=1)


def loader(task: str, dataset: Dataset, imgsz: int, folder: Path) -> Callable[[list[Path], int], Iterator[Batch]]:
    """Make the function from images and a batch size to training batches of a task.

    Detection batches are :func:`batches`. Those of the other tasks come from Ultralytics' own data sets, not augmented,
    with whatever the task's loss reads; their links and caches go into ``folder``.
    """
    if task == "detect":
        return lambda images, batch: batches(images, imgsz, batch, dataset.label_format())
    return lambda images, batch: _task_batches(task, replace(dataset, splits={"train": images}), imgsz, batch, folder)


def _task_batches(task: str, dataset: Dataset, imgsz: int, batch: int, folder: Path) -> Iterator[Batch]:
    """Training batches; ``img`` (N, 3, imgsz, imgsz) float32 as the task's trainer has it."""
    if not dataset.splits["train"]:
        return
    prepare_ultralytics()
    source = write_absolute_yaml(dataset, folder / "scored.yaml")
    samples, collate = (_classified if task == "classify" else _labelled)(task, dataset, source, imgsz, batch)
    for start in range(0, len(samples), batch):
        values = collate([samples[i] for i in range(start, min(start + batch, len(samples)))])
        # Detection trainers convert on the device; a classifier's data set is float already.
        if values["img"].dtype == torch.uint8:
            values["img"] = values["img"].float() / 255
        yield values


def _labelled(task: str, dataset: Dataset, source: Path, imgsz: int, batch: int) -> tuple[Any, Any]:
    """Ultralytics' data set of labelled images, letterboxed, and what makes batches of it."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset

    arguments = get_cfg(overrides={"task": task, "imgsz": imgsz})
    description = {**dataset.extra, "names": dataset.names, "nc": len(dataset.names)}
    # Data sets without the key are of three channels.
    description = {"channels": 3, **description}
    images = source.with_name(f"{source.stem}_links") / "images" / "train"
    samples = build_yolo_dataset(arguments, str(images), batch, description, mode="val", rect=False, stride=32)
    return samples, samples.collate_fn


def _classified(_task: str, dataset: Dataset, source: Path, imgsz: int, _batch: int) -> tuple[Any, Any]:
    """Ultralytics' data set of class folders, resized and cropped, and what makes batches of it."""
    from torch.utils.data import default_collate
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import ClassificationDataset

    arguments = get_cfg(overrides={"task": "classify", "imgsz": imgsz})
    found = ClassificationDataset(source / "train", arguments, names=dataset.names)
    # Folder by folder, each batch would have one class; the links' names begin with their place among the images.
    found.samples.sort(key=lambda sample: Path(sample[0]).name)
    return found, default_collate
