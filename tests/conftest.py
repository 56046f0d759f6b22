"""Small real inputs that all tests share. No test reaches for the network or the user's settings."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.bare_process import BareUltralytics
from tests.helpers.chromium import InBrowser, Shared
from tests.helpers.constants import ROOT
from tests.helpers.shared import once, quantize_example
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: a worker that got one last would go on alone."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


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
def example_graphs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the shipped yolo11n's graphs, see :func:`quantize_example`."""
    return once(tmp_path_factory, "graphs", lambda folder: quantize_example(folder, trained))


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


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a detector of few layers with random weights, which is exported in a moment."""
    path = tmp_path_factory.mktemp("small") / "small.pt"
    _save_untrained(SMALL, path)
    return path


SMALL = {
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64, True]],
        [-1, 1, "Conv", [96, 3, 2]], [-1, 2, "C2f", [96, True]], [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]], [-1, 1, "C2f", [128, True]],
    ],
    "head": [[[5, 7], 1, "Detect", ["nc"]]],
}  # fmt: skip
"""Layers as in Ultralytics' yaml files: a detector of strides 16 and 32."""


def _save_untrained(config: str | dict[str, Any], path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    described = f"{config}.yaml" if isinstance(config, str) else {**config, "nc": len(NAMES)}
    model = DetectionModel(described, nc=len(NAMES), verbose=False)
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


@pytest.fixture(scope="session")
def in_browser() -> Iterator[InBrowser]:
    """A function that works with a browser; every call has cookies and storage of its own."""
    shared = Shared()
    yield shared.run
    shared.stop()


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareUltralytics]:
    """Plain Ultralytics in a process where yolo_slim can't be imported."""
    found = BareUltralytics(tmp_path_factory.mktemp("bare"))
    yield found
    found.stop()
