"""A pruned network, and a function that trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trainings import QUICK, Recover
from yolo_slim.config.run import PruneConfig
from yolo_slim.progress import Progress, Silent
from yolo_slim.stages import prune, recover
from yolo_slim.stages.context import Context


@pytest.fixture(scope="session")
def cut(untrained: Callable[[str], Path], signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pruned yolov8n."""
    inputs = prune.PruneInputs(model=untrained("yolov8n"))
    config = PruneConfig(macs_removed=0.6, criterion="l2", normalize="mean", steps=1, bn_images=8)
    return prune.run(inputs, config, tmp_path_factory.mktemp("cut"), Context.load(signs, imgsz=64)).weights


@pytest.fixture
def train(cut: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> Recover:
    """A function that trains the pruned network in one folder; settings that aren't given are ``QUICK``'s."""

    def run(
        *,
        teacher: Path | None = None,
        progress: Progress | None = None,
        folder: str = "recover",
        retrain: bool = False,
        replace: bool = True,
        **settings: Any,
    ) -> recover.RecoverOutputs:
        inputs = recover.RecoverInputs(weights=cut, teacher=teacher or untrained("yolov8n"))
        config = QUICK.model_copy(update=settings)
        context = Context.load(signs, imgsz=64, progress=progress or Silent(), retrain=retrain)
        return recover.run(inputs, config, tmp_path / folder, context, replace=replace)

    return run
