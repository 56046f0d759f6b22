"""Checkpoints of other times and systems: what `YOLO()` loads is loaded, what it can't load is named."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_slim.errors import SlimError
from yolo_slim.files import sha256
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


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every file that torch unpickles."""
    whole, counted = torch.load, list[int]()

    def load(*args: Any, **settings: Any) -> Any:
        counted.append(1)
        return whole(*args, **settings)

    monkeypatch.setattr(torch, "load", load)
    return counted


def rewritten(source: Path, path: Path, epoch: int) -> Path:
    """Write a checkpoint of the same network and other bytes."""
    content = torch.load(source, weights_only=False)
    torch.save({**content, "epoch": epoch}, path)
    return path


def test_each_file_is_unpickled_once(untrained: Callable[[str], Path], tmp_path: Path, reads: list[int]) -> None:
    """Loading again copies what was read; every caller has a network of its own, and refusals stay."""
    path = rewritten(untrained("yolov8n"), tmp_path / "a.pt", 1)
    reads.clear()
    first, second = checkpoint.load(path), checkpoint.load(path)
    assert len(reads) == 1
    assert (first.sha256, first.metadata["epoch"]) == (sha256(path), 1)
    for weight in first.model.parameters():
        weight.fill_(7.0)
    first.model.names[0] = "changed"
    first.metadata["train_args"]["imgsz"] = 7
    third = checkpoint.load(path)
    for other in (second, third):
        assert other.names[0] != "changed"
        assert other.metadata["train_args"]["imgsz"] == 128
        assert not any(bool((weight == 7.0).all()) for weight in other.model.parameters())
    with pytest.raises(SlimError, match=r"a\.pt is for none of the tasks classify"):
        checkpoint.load(path, ("classify",))
    assert checkpoint.load(shutil.copy(path, tmp_path / "copy.pt")).path.name == "copy.pt"
    assert len(reads) == 1


def test_changed_file_is_read_again(untrained: Callable[[str], Path], tmp_path: Path, reads: list[int]) -> None:
    """A file that another one replaced is another one, though its path, size and time are the same."""
    path = rewritten(untrained("yolov8n"), tmp_path / "a.pt", 1)
    before, stat = checkpoint.load(path), path.stat()
    rewritten(untrained("yolov8n"), path, 2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    reads.clear()
    after = checkpoint.load(path)
    assert len(reads) == 1
    assert (before.metadata["epoch"], after.metadata["epoch"]) == (1, 2)
    assert after.sha256 == sha256(path) != before.sha256


def test_few_checkpoints_stay_in_memory(untrained: Callable[[str], Path], tmp_path: Path, reads: list[int]) -> None:
    """The least recently used one is forgotten, and read again when it is wanted."""
    paths = [rewritten(untrained("yolov8n"), tmp_path / f"{n}.pt", n) for n in range(checkpoint.MOST_CACHED + 1)]
    reads.clear()
    for path in (*paths[:-1], paths[0], paths[-1], paths[0]):
        checkpoint.load(path)
    assert len(reads) == len(paths)
    checkpoint.load(paths[1])
    assert len(reads) == len(paths) + 1
