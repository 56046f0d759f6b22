"""Tiny rendered data sets of every task, and networks of every family with random weights for them.

Bright shapes on dark noise, with polygons, keypoints, rotated boxes or class folders as Ultralytics reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_slim.models.checkpoint import MODELS

NAMES = ("disc", "square", "triangle")
KEYPOINTS = (4, 3)
SUFFIX = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
"""Task to the end of its yaml's name."""


def make(folder: Path, task: str, *, images: int = 16, imgsz: int = 64) -> Path:
    """Write a data set and return what to give as ``data``: a data.yaml, or for classification the folder."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(images):
            picture, rows = _scene(rng, task, imgsz, index % len(NAMES))
            _write(folder, split, index, picture, rows, task)
    if task == "classify":
        return folder
    lines = [
        f"path: {folder.absolute()}",
        "train: images/train",
        "val: images/val",
        f"names: {json.dumps(list(NAMES))}",
    ]
    lines += [f"kpt_shape: {list(KEYPOINTS)}", f"flip_idx: {[1, 0, 3, 2]}"] if task == "pose" else []
    (folder / "data.yaml").write_text("\n".join(lines) + "\n")
    return folder / "data.yaml"


def network(config: str, task: str) -> Any:
    """Return an Ultralytics model with random weights and statistics: ``network("yolo11n", "pose")``."""
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(0)
    description = tasks.yaml_model_load(f"{config}{SUFFIX[task]}.yaml")
    if task == "pose":
        description["kpt_shape"] = list(KEYPOINTS)
    model = getattr(tasks, MODELS[task][0])(description, nc=len(NAMES), verbose=False)
    model.names, model.args = dict(enumerate(NAMES)), {"task": task, "imgsz": 64}
    return randomised(model)


def randomised(model: Any) -> Any:
    """Return a model with random statistics and no vector of equal values, so that mixed-up channels show."""
    import torch

    norms: list[Any] = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 1.5)
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.normal_(module.bias, 0, 0.1)
    done = {id(parameter) for module in norms for parameter in module.parameters()}
    model.float().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and id(parameter) not in done:
            noise = torch.randn_like(parameter) * 0.1
            parameter.copy_(parameter + noise if name.endswith("bias") else 1 + noise)
    return model


def save(model: Any, path: Path) -> Path:
    """Write a network as Ultralytics does."""
    import torch

    torch.save({"model": model, "ema": None, "epoch": -1, "train_args": model.args, "version": "8"}, path)
    return path


def _write(folder: Path, split: str, index: int, picture: NDArray[np.uint8], rows: list[str], task: str) -> None:
    """Write one image and its label."""
    where = split + "/" + NAMES[index % len(NAMES)] if task == "classify" else f"images/{split}"
    path = folder / where / f"{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    if task != "classify":
        label = folder / "labels" / split / f"{index}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(rows) + "\n")


def _scene(rng: np.random.Generator, task: str, imgsz: int, first: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Return a picture of two shapes and the label rows."""
    picture = rng.integers(0, 60, (imgsz, imgsz, 3), dtype=np.uint8)
    rows = []
    for kind, column in ((first, 0.27), (int(rng.integers(len(NAMES))), 0.73)):
        centre = np.array([column, rng.uniform(0.3, 0.7)])
        points = centre + _outline(kind) * rng.uniform(0.12, 0.2) @ _turn(rng.uniform(-0.6, 0.6))
        cv2.fillPoly(picture, [(points * imgsz).astype(np.int32)], tuple(rng.integers(150, 255, 3).tolist()))
        rows.append(" ".join([str(kind), *(f"{value:.5f}" for value in _label(task, points))]))
    return picture, rows


def _outline(kind: int) -> NDArray[np.float64]:
    """Return the outline of a shape in [-1, 1], shape (points, 2)."""
    corners = {"square": 4, "disc": 16, "triangle": 3}[NAMES[kind]]
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _turn(angle: float) -> NDArray[np.float64]:
    """Return a rotation matrix."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _label(task: str, points: NDArray[np.float64]) -> list[float]:
    """Return a label row without its class."""
    low, high = points.min(0), points.max(0)
    box = [*((low + high) / 2).tolist(), *(high - low).tolist()]
    if task == "segment":
        return points.reshape(-1).tolist()
    if task == "obb":
        return cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32))).reshape(-1).clip(0, 1).tolist()
    if task == "pose":
        corners = np.array([low, [high[0], low[1]], [low[0], high[1]], high])
        return box + [value for corner in corners for value in (*corner.tolist(), 2.0)]
    return box
