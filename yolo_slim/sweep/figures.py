"""The figures of one network of a sweep, with when and by what they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from yolo_slim.datasets.description import Dataset
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import read_truths, score
from yolo_slim.measuring.predict import detect_all, torch_infer
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import measure
from yolo_slim.progress import Silent
from yolo_slim.workspace.job import versions


def figures_of(weights: Path, images: Sequence[Path], *, dataset: Dataset, imgsz: int) -> dict[str, Any]:
    """Score the PyTorch weights, before any export: their differences are what a sweep compares.

    Args:
        weights: checkpoint; its one-to-many head is scored, which every family has.
        images: what scores, with labels beside them.
        dataset: what they are of.
        imgsz: input side in pixels.
    """
    model = checkpoint.load(weights).model
    infer = torch_infer(model, end2end=False)
    found = detect_all(images, infer, layout="one2many", imgsz=imgsz, progress=Silent(), text="")
    size = measure(model, imgsz, end2end=False)
    accuracy = score(read_truths(images, dataset.label_format()), found, dataset.names)
    made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", **versions()}
    return {"map50_95": accuracy.map50_95, "macs": size.macs, "params": size.params, "made": made}


def origin(figures: Mapping[str, Any]) -> str:
    """When and by what figures were measured, as a line."""
    # The oldest records have only a date.
    made = figures.get("made") or {"date": figures["date"]}
    return ", ".join(value if key in ("date", "machine") else f"{key} {value}" for key, value in made.items())
