"""A pruned network, and a function that trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import tiny_data
from tests.helpers.trainings import QUICK, Recover
from yolo_slim.config.run import PruneConfig
from yolo_slim.datasets.quickstart.signs import NAMES
from yolo_slim.progress import Progress, Silent
from yolo_slim.stages import prune, recover
from yolo_slim.stages.context import Context


@pytest.fixture(scope="session")
def unpruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A yolov8n of half the width with random weights: its trainings take half as long."""
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    torch.manual_seed(0)
    layout = {**yaml_model_load("yolov8n.yaml"), "scales": {"n": [0.33, 0.125, 1024]}}
    model = DetectionModel(layout, nc=len(NAMES), verbose=False)
    model.names, model.args = dict(enumerate(NAMES)), {"task": "detect", "imgsz": 64}
    return tiny_data.save(tiny_data.randomised(model), tmp_path_factory.mktemp("unpruned") / "unpruned.pt")


@pytest.fixture(scope="session")
def cut(unpruned: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pruned network."""
    inputs = prune.PruneInputs(model=unpruned)
    config = PruneConfig(macs_removed=0.4, criterion="l2", normalize="mean", steps=1, bn_images=8)
    return prune.run(inputs, config, tmp_path_factory.mktemp("cut"), Context.load(signs, imgsz=64)).weights


@pytest.fixture
def train(cut: Path, unpruned: Path, signs: Path, tmp_path: Path) -> Recover:
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
        inputs = recover.RecoverInputs(weights=cut, teacher=teacher or unpruned)
        config = QUICK.model_copy(update=settings)
        context = Context.load(signs, imgsz=64, progress=progress or Silent(), retrain=retrain)
        return recover.run(inputs, config, tmp_path / folder, context, replace=replace)

    return run
