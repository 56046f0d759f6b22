"""Small real inputs that all tests share. No test reaches for the network or the user's settings."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT
from yolo_slim.datasets.quickstart.signs import NAMES

# Removed when this process ends. pytest's own folders come too late: collecting tests imports Ultralytics.
ULTRALYTICS = tempfile.TemporaryDirectory(prefix="yolo-slim-tests-")
os.environ |= {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "YOLO_CONFIG_DIR": ULTRALYTICS.name,
}


def _take_own_cores() -> None:
    """Keep a worker and what it starts on its share of the cores: threads that outnumber them wait for each other."""
    workers, own = (os.environ.get(f"PYTEST_XDIST_WORKER{key}", "") for key in ("_COUNT", ""))
    if workers and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // int(workers))
        first = int(own.removeprefix("gw")) * share % len(cores)
        os.sched_setaffinity(0, cores[first : first + share])


_take_own_cores()


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary files in pytest's folder, which it clears: a killed process leaves its own behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data.yaml of 60 rendered scenes of 128 px."""
    from yolo_slim.datasets import quickstart

    folder = tmp_path_factory.mktemp("signs") / "data"
    return quickstart.generate(folder, counts={"train": 32, "val": 16, "test": 12}, imgsz=128)


@pytest.fixture(scope="session")
def trained() -> Path:
    """Return the shipped yolo11n, trained on such scenes at 320 px."""
    from yolo_slim.datasets import quickstart

    return quickstart.default_model()


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family to an Ultralytics checkpoint of random weights for the signs' classes."""
    folder = tmp_path_factory.mktemp("untrained")

    def make(family: str) -> Path:
        path = folder / f"{family}.pt"
        if not path.exists():
            _save_untrained(family, path)
        return path

    return make


def _save_untrained(config: str, path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(f"{config}.yaml", nc=len(NAMES), verbose=False)
    model.names = dict(enumerate(NAMES))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    model.args = {"task": "detect", "imgsz": 128}
    torch.save({"model": model, "ema": None, "epoch": -1, "train_args": model.args, "version": "8"}, path)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real photos and weights beside the project, or skip."""
    folder = ROOT.parent / "shared"
    if not (folder / "data" / "hardhat" / "data.yaml").is_file():
        pytest.skip("needs ../shared/data/hardhat and ../shared/models/hardhat")
    return folder
