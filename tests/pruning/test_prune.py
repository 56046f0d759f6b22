"""The stage: what is removed, what stays, and what it says; that the cut is exact is test_coverage.py's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers import tiny_data
from tests.helpers.constants import FAMILIES
from tests.helpers.cuts import random_plan
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import conv_widths
from yolo_slim.pruning.plan import PrunePlan, compose
from yolo_slim.pruning.surgery import apply_plan, reestimate_batchnorm
from yolo_slim.stages import plan, prune
from yolo_slim.stages.context import Context

QUICK = {"steps": 2, "images": 4, "bn_images": 8}


def output(model: torch.nn.Module) -> torch.Tensor:
    """Return the network's output for a fixed random image."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = model(image)[1]
    head = raw.get("one2many", raw)
    return torch.cat([head["boxes"], head["scores"]], dim=1)


def test_composed_plan_equals_two_cuts(untrained: Callable[[str], Path]) -> None:
    """One cut by the composed plan leaves the weights that two cuts in turn leave."""
    once, twice = (checkpoint.load(untrained("yolov8n")).model for _ in range(2))
    first = random_plan(twice, seed=1)
    apply_plan(twice, first)
    second = random_plan(twice, seed=2)
    apply_plan(twice, second)
    apply_plan(once, compose(first, second))
    assert torch.equal(output(once), output(twice))


def test_too_little_memory_is_explained(
    trained: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory runs out outside of a training, the message says at what; other errors stay what they are."""

    def scoring(error: Exception) -> Exception:
        def refuse(*_: Any) -> None:
            raise error

        monkeypatch.setattr("yolo_slim.pruning.scoring.score", refuse)
        with pytest.raises(Exception, match="") as caught:
            plan.make(trained, PruneConfig(), tmp_path, context)
        return caught.value

    found = scoring(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"))
    assert "Memory ran out while channels were scored, with 8 images of 64 px at a time." in str(found)
    assert isinstance(found, MachineError)
    assert type(scoring(RuntimeError("shapes differ"))) is RuntimeError
    assert not (tmp_path / "plan.json").exists()


def test_statistics_are_averages_over_images() -> None:
    """Every image counts the same, also those of a smaller last batch; the model's own momentum stays."""
    model = nn.Sequential(nn.BatchNorm2d(1, momentum=0.03))
    images = torch.randn(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(10.0).view(10, 1, 1, 1)
    reestimate_batchnorm(model, [images[:4], images[4:8], images[8:]])
    norm: Any = model[0]
    assert norm.running_mean.item() == pytest.approx(images.mean().item(), rel=1e-5)
    within = [(part.var().item(), len(part)) for part in (images[:4], images[4:8], images[8:])]
    assert norm.running_var.item() == pytest.approx(sum(var * n for var, n in within) / 10, rel=1e-5)
    assert norm.momentum == 0.03


def test_statistics_of_branches_that_only_training_runs() -> None:
    """yolo26's mask prototypes have such a branch, which later steps score through; its statistics are found too."""
    model = tiny_data.network("yolo26n", "segment")
    before = model.model[-1].proto.semseg[0].bn.running_var.clone()
    reestimate_batchnorm(model, [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))])
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked for norm in norms)
    assert not torch.equal(model.model[-1].proto.semseg[0].bn.running_var, before)


def test_statistics_of_what_never_runs_stay() -> None:
    """A layer that no image reaches isn't left with the statistics of a fresh one."""
    model = nn.Sequential(nn.Identity(), nn.BatchNorm2d(1))
    model[0].unused = nn.BatchNorm2d(1)
    unused: Any = model[0].unused
    unused.running_mean.fill_(5.0)
    reestimate_batchnorm(model, [torch.randn(2, 1, 4, 4)])
    assert unused.running_mean.item() == 5.0


def test_plan_of_another_model_is_refused(untrained: Callable[[str], Path]) -> None:
    """A plan that doesn't fit names the layers and leaves the model as it was."""
    of_v8 = random_plan(checkpoint.load(untrained("yolov8n")).model, seed=1)
    other = checkpoint.load(untrained("yolo11n")).model
    before = output(other)
    with pytest.raises(SlimError, match="another model"):
        apply_plan(other, of_v8)
    assert torch.equal(output(other), before)


@pytest.fixture
def larger(context: Context) -> Context:
    """The side that the untrained networks are for, 128 px."""
    return replace(context, imgsz=128)


@pytest.mark.parametrize("family", FAMILIES)
def test_stage_reaches_its_target(
    family: str, untrained: Callable[[str], Path], larger: Context, tmp_path: Path
) -> None:
    """MACs of the fused graph fall as asked, widths are multiples of 8, the plan says what stayed, twice the same."""
    inputs = prune.PruneInputs(model=untrained(family))
    config = PruneConfig(macs_removed=0.4, **QUICK)
    outputs = prune.run(inputs, config, tmp_path / "a", larger)
    again = prune.run(inputs, config, tmp_path / "b", larger)
    assert sha256(outputs.weights) == sha256(again.weights)
    assert checkpoint.load(outputs.weights).metadata["train_args"]["imgsz"] == 128
    table = read_json(outputs.widths)
    assert 1 - table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.4, abs=0.03)
    changed = [row for row in table["layers"] if row["after"] != row["before"]]
    assert changed
    assert all(row["after"] % 8 == 0 for row in changed)
    by_plan = checkpoint.load(inputs.model).model
    apply_plan(by_plan, PrunePlan.load(outputs.plan))
    pruned = checkpoint.load(outputs.weights).model
    assert conv_widths(by_plan) == conv_widths(pruned)


@pytest.mark.parametrize("settings", [{"criterion": "l2", "scope": "uniform"}, {"criterion": "random"}])
def test_other_criteria(
    settings: dict[str, str], untrained: Callable[[str], Path], larger: Context, tmp_path: Path
) -> None:
    """The criteria that need no gradients reach the target too, and the head keeps all channels at head rate 0."""
    config = PruneConfig(macs_removed=0.2, head_rate=0.0, **QUICK, **settings)
    outputs = prune.run(prune.PruneInputs(model=untrained("yolov8n")), config, tmp_path, larger)
    head = [row for row in read_json(outputs.widths)["layers"] if row["layer"].startswith("model.22.")]
    assert head
    assert all(row["before"] == row["after"] for row in head)
