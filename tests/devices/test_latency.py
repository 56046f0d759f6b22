"""A latency table and a cut to milliseconds on real runtimes: files, and the order in which the device is asked."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

import yolo_slim
from tests.helpers.devices import BackedDevice
from tests.helpers.ssh_device import home_of
from tests.helpers.sshd import Sshd
from yolo_slim import preparation
from yolo_slim.build_key import BuildName
from yolo_slim.config.run import LatencyConfig, PruneConfig
from yolo_slim.datasets import quickstart
from yolo_slim.datasets.quickstart.signs import NAMES
from yolo_slim.devices import inventory
from yolo_slim.devices.connect import connect
from yolo_slim.devices.local import LocalDevice
from yolo_slim.measuring.latency import LatencyTable
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.models import checkpoint
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.runtime import bench
from yolo_slim.stages import latency, prune
from yolo_slim.stages.context import Context

pytestmark = pytest.mark.slow
IMGSZ = 64
BUILD = BuildName("onnxruntime", "fp32")
QUICK = LatencyConfig(networks=4, checks=2, rounds=1, frames=1, control_seconds=0.05)
TINY = {
    "nc": len(NAMES), "depth_multiple": 1.0, "width_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [24, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]],
    ],
    "head": [[[3, 4], 1, "Detect", ["nc"]]],
}  # fmt: skip
"""Layers as in Ultralytics' yaml files: few kinds of narrow convolutions, each of which is timed over its widths."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of random weights."""
    torch.manual_seed(0)
    model = DetectionModel(TINY, nc=len(NAMES), verbose=False)
    model.names = dict(enumerate(NAMES))
    model.args = {"task": "detect", "imgsz": IMGSZ}
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    torch.save({"model": model, "ema": None, "epoch": -1, "train_args": model.args, "version": "8"}, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some scenes."""
    counts = {"train": 16, "val": 4, "test": 4}
    return quickstart.generate(tmp_path_factory.mktemp("data") / "data", counts=counts, imgsz=IMGSZ)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr(bench, "PAUSE_S", 0.0)


def timed(device: BackedDevice) -> list[str]:
    """What was timed, in order."""
    return [one for one in device.asked if one in ("bench", "layers", "time_paired")]


def of_table(table: LatencyTable) -> list[str]:
    """What is timed for a table, in order: the unpruned network, every kind of layer, then whole networks."""
    assert len(table.grids) > 5
    return ["bench", *["layers"] * len(table.grids), *["time_paired"] * (QUICK.networks + QUICK.checks)]


def cut_of(outputs: PruneOutputs, unpruned: Path) -> LatencyCut:
    """Read how the budget was reached, by a network that has fewer weights."""
    pruned, before = (
        sum(one.numel() for one in checkpoint.load(path).model.parameters()) for path in (outputs.weights, unpruned)
    )
    assert pruned < before
    return LatencyCut.model_validate_json(outputs.latency.read_text(encoding="utf-8"))


def test_on_this_machine(tiny: Path, data: Path, tmp_path: Path) -> None:
    """The table, then a cut by it that is timed before it is written; a second call asks the device for nothing."""
    device = BackedDevice(LocalDevice())
    context = Context.load(data, "host", imgsz=IMGSZ, device=device)
    inputs = latency.LatencyInputs(model=tiny, pruning=PruneConfig(round_to=8))
    tables = latency.run(inputs, QUICK, [BUILD], tmp_path / "tables", context)
    table = LatencyTable.load(tables.tables[BUILD])
    assert timed(device) == of_table(table)
    assert tables.page.is_file()
    budget = table.overhead_ms + 0.8 * table.control_ms
    given = prune.PruneInputs(model=tiny, latency=tables, timing=QUICK)
    config = PruneConfig(round_to=8, images=8, bn_images=8, steps=1, latency_ms=budget)
    device.asked.clear()
    outputs = prune.run(given, config, tmp_path / "prune", context)
    cut = cut_of(outputs, tiny)
    assert timed(device) == ["time_paired"] * len(cut.cuts)
    assert cut.measured_ms <= budget
    device.asked.clear()
    assert prune.run(given, config, tmp_path / "prune", context) == outputs
    assert device.asked == []


def test_over_ssh(tiny: Path, data: Path, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`yolo-slim latency --host` measures the table on the device; `prune --latency-ms --host` times its cuts there."""
    opened: list[BackedDevice] = []

    def backed(*given: Any) -> BackedDevice:
        opened.append(BackedDevice(connect(*given)))
        return opened[-1]

    monkeypatch.setattr(preparation, "connect", backed)
    monkeypatch.chdir(tmp_path)
    settings = {f"latency.{key}": value for key, value in QUICK.model_dump(exclude_unset=True).items()}
    settings |= {"latency.runtime": str(BUILD), "prune.images": 8, "prune.bn_images": 8, "prune.steps": 1}
    with home_of(tmp_path / "home") as home:
        sshd.trust(home, "board")
        inventory.add(
            "desk", inventory.Entry(host="board", target="host", folder=str(tmp_path / "device"), python=sys.executable)
        )
        call: Any = {"host": "desk", "imgsz": IMGSZ}
        tables = yolo_slim.latency(tiny, data, **call, settings=settings)
        table = LatencyTable.load(tables.tables[BUILD])
        budget = table.overhead_ms + 0.8 * table.control_ms
        outputs = yolo_slim.prune(tiny, data, tmp_path / "prune", **call, latency_ms=budget, settings=settings)
    first, second = opened
    cut = cut_of(outputs, tiny)
    assert timed(first) == of_table(table)
    assert timed(second) == ["time_paired"] * len(cut.cuts)
    assert not first.is_here
    assert table.device == cut.device == first.name
    assert table.machine.runtimes["onnxruntime"] == version("onnxruntime")
    assert cut.measured_ms <= budget
