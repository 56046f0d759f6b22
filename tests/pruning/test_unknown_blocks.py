"""Blocks of somebody's own and rare stock ones: cut exactly, kept by name, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

from tests.helpers import tiny_data
from tests.helpers.cuts import assert_exact
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.models.macs import measure
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context


class Block(nn.Module):
    """A block of somebody's own around a layer of ``width`` outputs, with one convolution after it."""

    share = 0.0
    """Width of a convolution beside the layer, as a share of ``width``; 0 for none."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.after, self.width = inner, Conv(width, width, 1), width
        self.branch = Conv(width, int(width * self.share), 3) if self.share else nn.Identity()
        self.vector = nn.Parameter(torch.rand(width) + 0.5)
        self.i, self.f, self.type, self.np = inner.i, inner.f, type(self).__name__, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Change the layer's output and apply the convolution."""
        return self.after(self.change(self.inner(x)))

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Change nothing."""
        return x


class Shuffle(Block):
    """Shuffles channels in two groups."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Shuffle."""
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Twice(Block):
    """Uses its convolution twice."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        return self.after(x)


class Idle(Block):
    """Doesn't use its convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Leave ``after`` alone."""
        return self.inner(x)


class LayerScale(Block):
    """ConvNeXt's factor a channel, which broadcasts from (C, 1, 1)."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Scale."""
        return x * self.vector[:, None, None]


class ScaledVectors(Block):
    """A factor a channel for features (N, C)."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Scale by the mean."""
        return x * (x.mean((2, 3)) * self.vector)[:, :, None, None]


class LowerBounds(Block):
    """A lower bound a channel."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Clamp."""
        return torch.clamp(x, min=self.vector[:, None, None])


class ByKeyword(Block):
    """A sum whose second operand is a keyword."""

    share = 1.0

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Add."""
        return torch.add(self.branch(x), other=x)


class SomeToZero(Block):
    """An assignment to some channels, which returns nothing."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Clear."""
        x = x.clone()
        x[:, 3:20] = 0
        return x


class ArrayToZero(Block):
    """An assignment to channels that an array names."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Clear."""
        x = x.clone()
        x[:, np.arange(3, 20)] = 0
        return x


class SliceTimes(Block):
    """A product in place on a view of some channels."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Scale."""
        x = x.clone()
        x[:, :5].mul_(3)
        return x


class IndexFill(Block):
    """Chosen channels filled in place."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Fill."""
        return x.clone().index_fill_(1, torch.tensor([0, 3], device=x.device), 0.5)


class CopyTo(Block):
    """A copy into a view of half the channels."""

    share = 0.5

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Copy."""
        y = x.clone()
        y[:, : self.width // 2].copy_(self.branch(x))
        return y


class OtherData(Block):
    """A tensor that is given another one's memory."""

    share = 1.0

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Exchange."""
        y = x.clone()
        y.data = self.branch(x)
        return y


class WrittenOut(Block):
    """A sum that is written to a tensor made before."""

    share = 1.0

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Add."""
        y = torch.empty_like(x)
        torch.add(x, self.branch(x), out=y)
        return y


class LikeZeros(Block):
    """A new tensor as wide as the input, of which half is written."""

    share = 0.5

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Fill half."""
        y = torch.zeros_like(x)
        y[:, : self.width // 2] = self.branch(x)
        return y


class NewZeros(Block):
    """Zeros as wide as the input beside it."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Concatenate, and keep the first half."""
        return torch.cat([x, x.new_zeros(x.shape)], 1)[:, : self.width]


class Largest(Block):
    """A reduction that returns values and places."""

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Take each row's largest value."""
        return x.max(3, keepdim=True).values.expand(x.shape)


class Lost(Block):
    """A new tensor that nothing ties to the input."""

    share = 1.0

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """Write all of it."""
        y = torch.zeros(x.shape)
        y[:, : self.width] = self.branch(x)
        return y


def with_block(block: Callable[[nn.Module, int], nn.Module]) -> nn.Module:
    """Return a yolov8n whose fifth layer is wrapped in a block of somebody's own."""
    model = tiny_data.network("yolov8n", "detect")
    model.model[4] = block(model.model[4], 64)
    return model.eval().requires_grad_(False)


KEPT = {
    Shuffle: "view",
    LayerScale: "mul",
    ScaledVectors: "mul",
    LowerBounds: "clamp",
    SomeToZero: "__setitem__",
    ArrayToZero: "__setitem__",
    SliceTimes: "__getitem__",
    IndexFill: "index_fill_",
    CopyTo: "__getitem__ copy_",
    OtherData: "__set__",
    WrittenOut: "add",
    LikeZeros: "__setitem__",
    NewZeros: "new_zeros",
    Largest: "max",
}
"""Block to the calls that aren't understood."""


@pytest.mark.parametrize("block", KEPT, ids=lambda block: block.__name__)
def test_unknown_block_keeps_its_channels(block: type[Block]) -> None:
    """A block that isn't understood keeps its channels, says so, and the rest is cut exactly."""
    model = with_block(block)
    graph = trace_channels(model, 64)
    (name, why), *others = graph.blocks_kept().items()
    assert not others
    assert name == f"model.4 ({block.__name__})"
    stay = "can't be followed channel by channel, so all channels that it reads stay"
    reasons = "; ".join(f"{call}() {stay}" for call in KEPT[block].split())
    assert why.startswith(f"{reasons} (")
    assert why.endswith("% of the MACs)")
    assert all(layer.startswith("model.4.") for layer, reason in graph.kept_layers().items() if reason.block == name)
    cut = assert_exact(model)[0]
    assert cut.model[4].inner.cv2.conv.out_channels == 64


def test_understood_block_is_cut() -> None:
    """A block of operations that are understood, one by keyword, keeps nothing."""
    model = with_block(ByKeyword)
    assert not trace_channels(model, 64).blocks_kept()
    assert assert_exact(model)[0].model[4].inner.cv2.conv.out_channels == 32


def test_share_of_the_macs_that_stays() -> None:
    """The cost of a kept block is the share of the MACs that computes its channels, by hand."""
    model = with_block(Shuffle)
    graph = trace_channels(model, 64)
    kept = [conv for name, conv in graph.convs.items() if name in graph.kept_layers() and name.startswith("model.4.")]
    assert {conv.name for conv in kept} == {"model.4.inner.cv2.conv"}
    (text,) = graph.blocks_kept().values()
    share = kept[0].macs / sum(conv.macs for conv in graph.convs.values())
    assert share > 0.01
    assert f"({share:.0%} of the MACs)" in text


def test_shared_convolution_is_cut_for_both_uses() -> None:
    """A convolution that runs twice keeps the channels that both runs need."""
    cut = assert_exact(with_block(Twice))[0]
    assert cut.model[4].after.conv.weight.shape[:2] == (32, 32)


def test_unreached_convolution_is_refused_by_name() -> None:
    """A convolution that never runs is refused with its block."""
    with pytest.raises(SlimError, match=r"model\.4\.after\.conv in Conv"):
        trace_channels(with_block(Idle), 64)


def test_block_that_loses_the_channels_is_refused_by_name() -> None:
    """Where a block's output can't be followed, it is named, and not the layers behind it."""
    with pytest.raises(SlimError) as caught:
        trace_channels(with_block(Lost), 64)
    assert list(caught.value.culprits) == ["model.4 (Lost)"]
    assert "torch.zeros_like(x)" in str(caught.value)


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
    config = PruneConfig(macs_removed=0.97, criterion="l2", steps=1)
    with pytest.raises(SlimError, match=r"(?s)below their floor.*TransformerBlock.*keeps channels: .*-cut-cant-be-re"):
        prune.run(prune.PruneInputs(model=path), config, tmp_path / "out", Context.load(data, imgsz=64))
    cut = assert_exact(model)[0]
    assert measure(cut, 64).macs < 0.7 * measure(model, 64).macs
