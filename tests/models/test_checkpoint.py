"""Checkpoints of other times and systems: what `YOLO()` loads is loaded, what it can't load is named."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint


class OfWindows:
    """Pickled as a Windows path, which this system can't make."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Return what a checkpoint that was trained on Windows holds."""
        return pathlib.WindowsPath, ("runs/train",)


def renamed(source: Path, path: Path, name: str) -> Path:
    """Write a checkpoint whose network has a class of another name, which is gone when this returns."""
    content = torch.load(source, weights_only=False)
    older = type(name, (tasks.DetectionModel,), {"__module__": tasks.__name__})
    content["model"].__class__ = older
    content["train_args"] = {**content["train_args"], "project": OfWindows()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, name, older, raising=False)
        torch.save(content, path)
    return path


def test_names_that_ultralytics_has_changed(untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """Yolov10's own class and a path of Windows are read as Ultralytics reads them, apostrophe in the path or not."""
    path = renamed(untrained("yolov10n"), tmp_path / "it's old.pt", "YOLOv10DetectionModel")
    loaded = checkpoint.load(path)
    assert type(loaded.model) is tasks.DetectionModel
    checkpoint.save(tmp_path / "saved.pt", loaded, loaded.model, imgsz=96)
    plain = YOLO(tmp_path / "saved.pt")
    assert type(plain.model) is tasks.DetectionModel
    assert plain.overrides["imgsz"] == 96
    assert pathlib.WindowsPath is not pathlib.PosixPath


def test_class_that_ultralytics_never_had(untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """Negative control: code of the user's own is refused by its name."""
    path = renamed(untrained("yolov8n"), tmp_path / "own.pt", "MyDetectionModel")
    with pytest.raises(SlimError, match=r"not part of Ultralytics.*MyDetectionModel"):
        checkpoint.load(path)
