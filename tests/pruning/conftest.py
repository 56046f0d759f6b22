"""A context at 64 px, and one finished pruning whose plan the tests read and edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.plans import TWO_STEPS
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context


@pytest.fixture(scope="session")
def context(signs: Path) -> Context:
    """The signs at 64 px, for this machine."""
    return Context.load(signs, imgsz=64)


@pytest.fixture(scope="session")
def pruned(trained: Path, context: Context, tmp_path_factory: pytest.TempPathFactory) -> PruneOutputs:
    """The shipped yolo11n, pruned in two steps."""
    folder = tmp_path_factory.mktemp("planned") / "prune"
    return prune.run(prune.PruneInputs(model=trained), TWO_STEPS, folder, context)
