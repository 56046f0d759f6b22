"""What we write are plain Ultralytics checkpoints: no yolo_slim needed to validate and export them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_data
from tests.helpers.bare_process import BareUltralytics
from tests.helpers.constants import FAMILIES
from tests.helpers.listeners import Interrupts
from yolo_slim.config.run import ExportConfig, PruneConfig, RecoverConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.models import checkpoint
from yolo_slim.models.exported import layout_of
from yolo_slim.models.macs import conv_widths
from yolo_slim.stages import export, prune, recover
from yolo_slim.stages.context import Context

ONE_EPOCH = RecoverConfig(epochs=1, device="cpu", batch=8, overrides={"workers": 0})


def assert_plain(found: list[dict[str, Any]]) -> None:
    """Plain Ultralytics loaded, validated and exported every file."""
    assert [row["exports"] for row in found] == [True] * len(found), found


def widths(path: Path) -> dict[str, int]:
    """Return the widths of all convolutions in a file."""
    return conv_widths(checkpoint.load(path, checkpoint.TASKS).model)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_bare_ultralytics(
    family: str, untrained: Callable[[str], Path], signs: Path, tmp_path: Path, bare: BareUltralytics
) -> None:
    """Training keeps the widths, and YOLO(x).val() and .export() work on pruned.pt and recovered.pt on their own."""
    model, context = untrained(family), Context.load(signs, imgsz=64)
    cut = PruneConfig(macs_removed=0.5, steps=1, images=4, bn_images=8)
    pruned = prune.run(prune.PruneInputs(model=model), cut, tmp_path / "prune", context)
    inputs = recover.RecoverInputs(weights=pruned.weights, teacher=model)
    training = RecoverConfig(epochs=1, device="cpu", overrides={"workers": 0})
    recovered = recover.run(inputs, training, tmp_path / "recover", context)
    assert widths(pruned.weights) == widths(recovered.weights) != widths(model)
    (row,) = csv.DictReader(recovered.results.read_text().splitlines())
    measured = float(row["metrics/mAP50-95(B)"])
    assert checkpoint.load(recovered.weights).trained_map50_95 == pytest.approx(measured, abs=1e-5)
    assert checkpoint.load(pruned.weights).trained_map50_95 is None
    data = write_absolute_yaml(load_dataset(signs), tmp_path / "data.yaml")
    assert_plain(bare.use(data, 64, pruned.weights, recovered.weights))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "task"), [("yolo26n", "segment"), ("yolo11n", "pose"), ("yolo11n", "obb"), ("yolo11n", "classify")]
)
def test_other_tasks(family: str, task: str, tmp_path: Path, bare: BareUltralytics) -> None:
    """The task's own loss scores, training keeps the widths, the ONNX equals PyTorch, and Ultralytics takes it."""
    data = tiny_data.make(tmp_path / "data", task)
    model = tiny_data.save(tiny_data.network(family, task), tmp_path / "model.pt")
    config = PruneConfig(macs_removed=0.4, steps=1, images=16, bn_images=8)
    context = Context.load(data, imgsz=64)
    pruned = prune.run(prune.PruneInputs(model=model), config, tmp_path / "prune", context)
    inputs = recover.RecoverInputs(weights=pruned.weights, teacher=model)
    recovered = recover.run(inputs, ONE_EPOCH, tmp_path / "recover", context)
    assert widths(pruned.weights) == widths(recovered.weights) != widths(model)
    export.run(recovered.weights, ExportConfig(), tmp_path / "export", context)
    parity = read_json(tmp_path / "export" / "manifest.json")
    assert "parity" in json.dumps(parity)
    with pytest.raises(SlimError, match=f"is a {task} model"):
        layout_of(tmp_path / "export" / "model.onnx")
    assert_plain(bare.use(data, 64, recovered.weights))


@pytest.mark.slow
def test_another_task_resumes(tmp_path: Path) -> None:
    """A classifier's training that was stopped after an epoch goes on from it, at the pruned widths."""
    data = tiny_data.make(tmp_path / "data", "classify")
    model = tiny_data.save(tiny_data.network("yolov8n", "classify"), tmp_path / "model.pt")
    config = PruneConfig(macs_removed=0.4, steps=1, criterion="l2", images=8, bn_images=8)
    context = Context.load(data, imgsz=64)
    pruned = prune.run(prune.PruneInputs(model=model), config, tmp_path / "prune", context)
    inputs = recover.RecoverInputs(weights=pruned.weights, teacher=model)
    two = ONE_EPOCH.model_copy(update={"epochs": 2})
    with pytest.raises(KeyboardInterrupt):
        recover.run(inputs, two, tmp_path / "recover", replace(context, progress=Interrupts("epoch 1 of 2")))
    recovered = recover.run(inputs, two, tmp_path / "recover", context)
    assert '"resumed": true' in (tmp_path / "recover" / "manifest.json").read_text()
    assert len(recovered.results.read_text().strip().splitlines()) == 3
    assert widths(pruned.weights) == widths(recovered.weights)


def test_wrong_data_for_the_task(tmp_path: Path) -> None:
    """Class folders given to a detector, boxes to a segmenter and points of another shape are refused by name."""
    from yolo_slim.datasets.check import check_dataset

    folders = load_dataset(tiny_data.make(tmp_path / "classify", "classify"))
    with pytest.raises(SlimError, match=r"a detect model needs a data\.yaml"):
        check_dataset(folders, task="detect")
    boxes = load_dataset(tiny_data.make(tmp_path / "detect", "detect"))
    with pytest.raises(SlimError, match="a segment data set needs polygons"):
        check_dataset(boxes, task="segment")
    with pytest.raises(SlimError, match="kpt_shape: got None"):
        check_dataset(boxes, task="pose")
    pose = load_dataset(tiny_data.make(tmp_path / "pose", "pose"))
    check_dataset(pose, task="pose")
    pose.extra["kpt_shape"] = [17, 3]
    with pytest.raises(SlimError, match=r"17 columns; expected 56"):
        check_dataset(pose, task="pose")
