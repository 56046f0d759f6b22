"""Every family and task: the cut is exact, the stage reaches its target, and plain Ultralytics takes the result."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

from tests import tiny_data
from tests.conftest import ROOT
from yolo_slim.config import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.macs import exported_layers, measure
from yolo_slim.pruning.plan import PrunePlan, make_plan
from yolo_slim.pruning.surgery import apply_plan
from yolo_slim.stages import prune

ALL = tuple(tiny_data.SUFFIX)
SMALLEST = {
    "yolov5n": ("detect",),
    "yolov8n": ALL,
    "yolov9t": ("detect",),
    "yolov10n": ("detect",),
    "yolo11n": ALL,
    "yolo12n": ALL,
    "yolo26n": ALL,
}
ROWS = [(family, task) for family, family_tasks in SMALLEST.items() for task in family_tasks]
OTHER_BLOCKS = [("yolov9c", "segment"), ("yolov9e", "detect"), ("yolo12l", "detect"), ("yolov8n-ghost", "detect")]
"""ADown, CBLinear and CBFuse, the scaled residual of A2C2f, ghost convolutions."""


def half(model: nn.Module, seed: int = 3) -> PrunePlan:
    """Return a plan that drops about half of every space that isn't frozen, at random, equal counts where tied."""
    graph = trace_channels(model, 64)
    rng = np.random.default_rng(seed)
    kept: set[int] = set()
    for members in graph.tied:
        width = len(graph.spaces[members[0]].channels)
        stays = width if graph.spaces[members[0]].frozen else max(1, width // 2)
        for i in members:
            kept.update(rng.permutation(graph.spaces[i].channels)[:stays].tolist())
    return make_plan(graph, kept, "0", {})


def masked(model: nn.Module, plan: PrunePlan, *, outputs: bool = False) -> nn.Module:
    """Return a copy with the weights set to zero that read a removed channel, or (wrongly) those that write one."""
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        cut = plan.layers.get(name)
        if cut is None or (cut.inputs is None and not outputs):
            continue
        before, kept = (cut.outputs_before, cut.outputs) if outputs else (cut.inputs_before, cut.inputs)
        gone = sorted(set(range(before or 0)) - set(kept or ()))
        weight = module.weight.data.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else module.weight.data
        (weight if outputs else weight.transpose(0, 1))[gone] = 0
    return model


def answers(model: nn.Module) -> list[torch.Tensor]:
    """Return all outputs for a fixed image, those that only training reads too, with the statistics as they are."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    branches = [module for module in model.model[-1].modules() if list(module.children())]  # type: ignore[index]
    for module in branches:
        module.training = True
    with torch.no_grad():
        found = list(tensors(model(image)))
    model.eval()
    return found


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested outputs, the head's inputs aside."""
    if isinstance(value, dict):
        value = [inner for key, inner in value.items() if key != "feats"]
    return [leaf for inner in value for leaf in tensors(inner)] if isinstance(value, (list, tuple)) else [value]


def distance(ours: nn.Module, theirs: nn.Module) -> float:
    """Return the largest difference of any output as a share of its largest value."""
    pairs = zip(answers(ours), answers(theirs), strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in pairs)


def assert_exact(model: nn.Module) -> nn.Module:
    """Check that the cut network computes what the masked one does, and return it."""
    plan, cut = half(model), copy.deepcopy(model)
    apply_plan(cut, plan)
    assert distance(cut, masked(model, plan)) < 1e-4
    assert measure(cut, 64).macs < 0.6 * measure(model, 64).macs
    return cut


@pytest.mark.parametrize(("family", "task"), [*ROWS, *OTHER_BLOCKS])
def test_pruned_equals_masked(family: str, task: str) -> None:
    """The cut network computes what the uncut one does with the removed channels' readers set to zero."""
    model = tiny_data.network(family, task)
    for module in model.modules():
        if isinstance(getattr(module, "gamma", None), nn.Parameter):
            nn.init.normal_(module.gamma.data, 1.0, 0.3)
    cut = assert_exact(model)
    assert half(cut).layers.keys() == half(model).layers.keys(), "a cut network can be traced and cut again"


def test_masking_the_writers_is_not_the_same() -> None:
    """Zeroing what writes a removed channel leaves its normalisation's shift: the comparison above isn't vacuous."""
    model = tiny_data.network("yolo11n", "segment")
    plan, cut = half(model), copy.deepcopy(model)
    apply_plan(cut, plan)
    assert distance(cut, masked(model, plan, outputs=True)) > 1e-2


@pytest.mark.parametrize(("family", "attribute"), [("yolo12n", "num_heads"), ("yolo11n", "head_dim")])
def test_attention_is_cut(family: str, attribute: str) -> None:
    """A2C2f loses whole heads, C2PSA a share of every head; the stock attributes follow."""
    model = tiny_data.network(family, "detect")
    cut = assert_exact(model)
    before, after = (
        [getattr(module, attribute) for module in net.modules() if hasattr(module, "qkv")] for net in (model, cut)
    )
    assert before
    assert after == [max(1, value // 2) for value in before]


def test_exported_layers_leave_out_what_fusing_drops() -> None:
    """One of two heads, the training-only branches and the second kernel of a re-parametrised block don't count."""
    layers = exported_layers(tiny_data.network("yolo26n", "segment"), end2end=False)
    assert not [name for name in layers if "one2one" in name or "semseg" in name]
    rep = exported_layers(tiny_data.network("yolov9t", "detect"), end2end=False)
    assert [name for name in rep if name.endswith(".conv1.conv")]
    assert not [name for name in rep if name.endswith(".conv2.conv")]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, prune.PruneOutputs]]:
    """Return a function from family and task to the data set and the stage's outputs at half the MACs, by l2."""
    folder = tmp_path_factory.mktemp("coverage")
    done: dict[tuple[str, str], prune.PruneOutputs] = {}

    def make(family: str, task: str) -> tuple[Path, prune.PruneOutputs]:
        data = folder / task / "data"
        data = tiny_data.make(data, task) if not data.exists() else data / ("data.yaml" if task != "classify" else "")
        if (family, task) not in done:
            model = tiny_data.save(tiny_data.network(family, task), folder / f"{family}-{task}.pt")
            config = PruneConfig(macs_removed=0.5, criterion="l2", rounds=1, images=8, bn_images=8)
            out = folder / f"{family}-{task}"
            done[family, task] = prune.run(prune.PruneInputs(model=model, data=data), config, out, imgsz=64)
        return data, done[family, task]

    return make


@pytest.mark.parametrize(("family", "task"), ROWS)
def test_stage_halves_the_macs(family: str, task: str, pruned: Callable[..., Any]) -> None:
    """The stage reaches half the MACs of every family and task, and the reloaded file computes and counts the same."""
    outputs = pruned(family, task)[1]
    table = read_json(outputs.widths)
    assert table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.5, abs=0.03)
    model = YOLO(outputs.weights).model
    assert type(model).__module__ == "ultralytics.nn.tasks"
    assert measure(model, 64).macs == table["slim"]["macs"]


@pytest.mark.parametrize("task", ALL)
def test_bare_environment(task: str, pruned: Callable[..., Any]) -> None:
    """Plain Ultralytics loads, validates and exports every family's pruned network, with yolo_slim out of reach."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    made = [pruned(family, task) for family, tasks_of in SMALLEST.items() if task in tasks_of]
    weights = [str(outputs.weights) for _, outputs in made]
    command = [sys.executable, str(ROOT / "tests" / "bare.py"), str(made[0][0]), "64", *weights]
    folder = made[0][1].weights.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    found = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("BARE ")]
    assert len(found) == len(weights), done.stderr[-2000:]
    assert not [row for row in found if not row["exports"]]


class Shuffle(nn.Module):
    """A block of somebody's own: a convolution whose channels are then shuffled in two groups."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.after = inner, Conv(width, width, 1)
        self.i, self.f, self.type, self.np = inner.i, inner.f, "Shuffle", 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shuffle."""
        x = self.inner(x)
        n, c, h, w = x.shape
        return self.after(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class Twice(nn.Module):
    """A block that uses one convolution twice."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.again = inner, Conv(width, width, 3)
        self.i, self.f, self.type, self.np = inner.i, inner.f, "Twice", 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        return self.again(self.again(self.inner(x)))


class Idle(Twice):
    """A block with a convolution that its forward doesn't use."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Leave ``again`` alone."""
        return self.inner(x)


def with_block(block: Callable[[nn.Module, int], nn.Module]) -> nn.Module:
    """Return a yolov8n whose fifth layer is wrapped in a block of somebody's own."""
    model = tiny_data.network("yolov8n", "detect")
    model.model[4] = block(model.model[4], 64)
    return model.eval().requires_grad_(False)


def test_unknown_block_freezes_what_it_shuffles() -> None:
    """A block that isn't understood keeps its channels, says so, and the rest is cut exactly."""
    model = with_block(Shuffle)
    assert trace_channels(model, 64).blocks_kept() == {"model.4 (Shuffle)": "view"}
    cut = assert_exact(model)
    assert cut.model[4].inner.cv2.conv.out_channels == 64


def test_shared_convolution_is_cut_for_both_uses() -> None:
    """A convolution that runs twice keeps the channels that both runs need."""
    cut = assert_exact(with_block(Twice))
    assert cut.model[4].again.conv.weight.shape[:2] == (32, 32)


def test_unreached_convolution_is_refused_by_name() -> None:
    """A convolution that never runs is refused with its block."""
    with pytest.raises(SlimError, match=r"model\.4\.again\.conv in Conv"):
        trace_channels(with_block(Idle), 64)


def test_shared_weight_is_refused_by_name() -> None:
    """Two modules with one weight are refused with both names."""
    model = tiny_data.network("yolov8n", "detect")
    model.model[2].m[0].cv2.conv.weight = model.model[2].m[0].cv1.conv.weight
    with pytest.raises(SlimError, match=r"model\.2\.m\.0\.cv1\.conv and model\.2\.m\.0\.cv2\.conv"):
        trace_channels(model, 64)


def test_custom_yaml_with_rare_stock_blocks(tmp_path: Path) -> None:
    """Rare stock blocks of a user's own yaml: what a transformer mixes stays, by name, the rest goes exactly."""
    layers = [
        [-1, 1, "Focus", [32, 3]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "BottleneckCSP", [64]],
        [-1, 1, "GhostBottleneck", [64, 3, 1]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "C3TR", [128]],
        [-1, 1, "SPP", [128, [3, 5]]],
    ]
    head = [[[2, 4, 6], 1, "Detect", ["nc"]]]
    model = tasks.DetectionModel({"nc": 3, "backbone": layers, "head": head}, verbose=False).eval()
    assert "TransformerBlock" in " ".join(trace_channels(model, 64).blocks_kept())
    model.args = {"task": "detect", "imgsz": 64}
    path, data = tiny_data.save(model, tmp_path / "own.pt"), tiny_data.make(tmp_path / "data", "detect")
    config = PruneConfig(macs_removed=0.97, criterion="l2", rounds=1)
    with pytest.raises(SlimError, match=r"(?s)below their floor.*TransformerBlock.*stays as wide as it is"):
        prune.run(prune.PruneInputs(model=path, data=data), config, tmp_path / "out", imgsz=64)
    plan, cut = half(model), copy.deepcopy(model)
    apply_plan(cut, plan)
    assert distance(cut, masked(model, plan)) < 1e-4
    assert measure(cut, 64).macs < 0.7 * measure(model, 64).macs
