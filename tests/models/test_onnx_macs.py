"""Multiply-accumulates of a graph are counted as those of its weights are."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from tests.helpers.tiny_detector import write_onnx
from yolo_slim.models.onnx_macs import count


def test_a_graph_by_hand(tmp_path: Path) -> None:
    """A 1 x 1 convolution from 3 to 2 channels at 8 x 8 cells; what is no convolution doesn't count."""
    assert count(write_onnx(tmp_path / "tiny.onnx")) == 3 * 2 * 8 * 8


def test_strides_groups_and_transposed(tmp_path: Path) -> None:
    """A strided convolution counts at its output, a transposed one at its input, a group only its own channels."""
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.ConvTranspose2d(8, 4, 2, 2)
    )
    path = tmp_path / "layers.onnx"
    torch.onnx.export(layers, (torch.zeros(1, 3, 16, 16),), str(path), dynamo=False)
    assert onnx.load(str(path)).graph.node
    assert count(path) == 3 * 8 * 9 * 64 + 8 * 2 * 9 * 64 + 8 * 4 * 4 * 64
