"""The kinds of layers that a latency table has, and those that it refuses by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.devices import ModelledDevice
from yolo_slim.build_key import BuildName
from yolo_slim.config.run import LatencyConfig, PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.stages import latency
from yolo_slim.stages.context import Context

IMGSZ = 96
BUILD = BuildName("onnxruntime", "fp32")
CHANGED = "model.3"
"""A convolution of 96 channels from 64, stride 2."""


def changed(small: Path, layer: nn.Module) -> Any:
    """The small detector with another layer."""
    model = checkpoint.load(small).model
    model.get_submodule(CHANGED).conv = layer
    return model


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Conv2d(64, 96, 3, 2, 1, groups=4, bias=False), "convolution with 4 groups and dilation 1"),
        (nn.Conv2d(64, 96, 3, 2, 2, dilation=2, bias=False), "convolution with 1 groups and dilation 2"),
        (nn.ConvTranspose2d(64, 96, 2, 2, bias=False), "ConvTranspose2d"),
    ],
)
def test_layer_that_no_table_has(layer: nn.Module, named: str, small: Path) -> None:
    """It is refused with its name and kind, and the message says what else can be done."""
    model = changed(small, layer)
    with pytest.raises(SlimError, match="has layers that a latency table can't have") as error:
        layer_kinds(model, IMGSZ, frozenset({f"{CHANGED}.conv"}))
    assert error.value.culprits == (f"{CHANGED}.conv ({named})",)
    assert "--prune" in error.value.remedy


def test_layers_that_a_table_has(small: Path) -> None:
    """Control: a plain convolution is none of them, and neither is one of a group for each channel."""
    model = checkpoint.load(small).model
    kinds = layer_kinds(model, IMGSZ, exported_layers(model, end2end=False))
    assert str(kinds[f"{CHANGED}.conv"]) == "3x3 stride 2, 24x24, silu"
    depthwise = changed(small, nn.Conv2d(64, 64, 3, 2, 1, groups=64, bias=False))
    depthwise.get_submodule(CHANGED).bn = nn.BatchNorm2d(64)
    depthwise.model = nn.Sequential(*list(depthwise.model)[:4])
    found = layer_kinds(nn.Sequential(*depthwise.model), IMGSZ, frozenset({"3.conv"}))
    assert str(found["3.conv"]) == "depthwise 3x3 stride 2, 24x24, silu"


def test_table_of_a_grouped_convolution(small: Path, signs: Path, tmp_path: Path) -> None:
    """The stage refuses the checkpoint before the device is asked for anything."""
    content = torch.load(small, weights_only=False)
    content["model"].get_submodule(CHANGED).conv = nn.Conv2d(64, 96, 3, 2, 1, groups=4, bias=False)
    grouped = tmp_path / "grouped.pt"
    torch.save(content, grouped)
    device = ModelledDevice()
    context = Context.load(signs, "host", imgsz=IMGSZ, device=device)
    inputs = latency.LatencyInputs(model=grouped, pruning=PruneConfig(round_to=8))
    with pytest.raises(SlimError, match="has layers that a latency table can't have") as error:
        latency.run(inputs, LatencyConfig(), [BUILD], tmp_path / "tables", context)
    assert error.value.culprits[0].startswith(f"{CHANGED}.conv (convolution with 4 groups")
    assert device.asked == []
