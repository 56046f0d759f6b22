"""Short trainings of a pruned network, and ways to stop them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.stages.recover import RecoverOutputs
from yolo_slim.training.arguments import Training
from yolo_slim.workspace import job

QUICK = RecoverConfig(epochs=2, batch=8, device="cpu", overrides={"workers": 0, "fraction": 0.5, "cache": False})
"""Two epochs of half the images."""
RESUMES = "recover: resumes after epoch 1 of 2"
"""What is said where :data:`QUICK` was interrupted in its second epoch."""
Recover = Callable[..., RecoverOutputs]
"""The fixture ``train``."""


def training_in(folder: Path, *, end2end: bool = False, **paths: Path) -> Training:
    """Describe a training at 64 px, whose files needn't exist."""
    files = {"weights": folder / "w.pt", "teacher": folder / "t.pt", "data": folder / "d.yaml", **paths}
    return Training(**files, folder=folder, imgsz=64, seed=0, end2end=end2end)


def in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, spoil: Callable[[Any], None]) -> None:
    """Give ``spoil`` every batch of one epoch, from 0, before it is trained on."""
    from yolo_slim.training.trainer import SlimTrainer

    original = SlimTrainer.preprocess_batch

    def preprocess(self: Any, batch: Any) -> Any:
        batch = original(self, batch)
        if self.epoch == epoch:
            spoil(batch)
        return batch

    monkeypatch.setattr(SlimTrainer, "preprocess_batch", preprocess)


def fill(value: float) -> Callable[[Any], None]:
    """Make a function that fills the images of a batch with one value."""
    return lambda batch: batch["img"].fill_(value)


def refuse(error: BaseException) -> Callable[[Any], None]:
    """Make a function that raises an error for a batch."""

    def spoil(_: Any) -> None:
        raise error

    return spoil


def interrupted(train: Recover, *, after: int = 1, **settings: Any) -> None:
    """Train, and stop in the epoch after so many complete ones."""
    with pytest.MonkeyPatch.context() as patch:
        in_epoch(patch, after, fill(float("nan")))
        with pytest.raises(SlimError, match=f"became NaN or infinite in epoch {after + 1}"):
            train(**settings)


def never_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no further epoch be the best."""
    from yolo_slim.training.trainer import SlimTrainer

    original = SlimTrainer.save_model

    def save(self: Any) -> bool:
        self.best_fitness = self.fitness + 1
        return original(self)

    monkeypatch.setattr(SlimTrainer, "save_model", save)


def update(monkeypatch: pytest.MonkeyPatch, package: str = "ultralytics", to: str = "99.0") -> str:
    """Let an installed package seem to be of another version; gives the change as messages name it."""
    original = job.version
    before = original(package)
    monkeypatch.setattr(job, "version", lambda name: to if name == package else original(name))
    return f"{package} {before} -> {to}"
