"""Multiply-accumulates and parameters of the graph that is exported."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a network costs."""

    params: int
    """Parameters of the fused graph."""
    macs: int
    """Multiply-accumulates of the fused graph's convolutions and linear layers for one image."""

    def to_json(self) -> dict[str, int]:
        """Both as a JSON value."""
        return asdict(self)


def fused(model: nn.Module, *, end2end: bool) -> nn.Module:
    """A fused copy in evaluation mode with one head: what the exporter traces."""
    copied = copy.deepcopy(model).float().eval()
    copied.criterion = None  # type: ignore[assignment]
    if hasattr(copied, "end2end"):
        copied.end2end = end2end  # type: ignore[assignment]
        # A training leaves its own limits in the head; the exporter sets its defaults, which are the class's.
        for key in ("max_det", "agnostic_nms"):
            vars(copied.model[-1]).pop(key, None)  # type: ignore[index]
    # After ``end2end`` is set: fusing drops the head that it doesn't name.
    fuse = copied.fuse
    fuse(verbose=False)  # type: ignore[operator]
    return copied


def conv_widths(model: nn.Module) -> dict[str, int]:
    """Output channels of every convolution by name."""
    return {name: m.out_channels for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def measure(model: nn.Module, imgsz: int, *, end2end: bool = False) -> Size:
    """Measure the size of a model's fused graph, counted while it runs.

    Args:
        model: an unfused Ultralytics model; it isn't changed.
        imgsz: input side in pixels.
        end2end: count the one-to-one head in place of the one-to-many head, where there are both.
    """
    # Not by torch-pruning's counter: it multiplies a transposed convolution's weights by its output positions, of which
    # there are four times as many as positions where they are applied.
    graph = fused(model, end2end=end2end)
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    total = 0

    def count(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        total += _macs(module, args[0], output)

    with ExitStack() as stack, torch.no_grad():
        for module in graph.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                stack.callback(module.register_forward_hook(count).remove)
        graph(torch.zeros(1, channels, imgsz, imgsz))
    return Size(params=sum(p.numel() for p in graph.parameters()), macs=total)


def _macs(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, given: torch.Tensor, output: torch.Tensor) -> int:
    """One layer's multiply-accumulates: every weight once at every position it is applied to."""
    if isinstance(module, nn.Linear):
        return module.weight.numel() * (output.numel() // output.shape[-1])
    positions = given if isinstance(module, nn.ConvTranspose2d) else output
    return module.weight.numel() * positions.shape[0] * positions.shape[2] * positions.shape[3]


def exported_layers(model: nn.Module, *, end2end: bool) -> frozenset[str]:
    """Names of the convolutions and linear layers that the fused graph still has.

    Fusing drops one of two heads, what only training reads, and the smaller of two parallel kernels.
    """
    # RepConv (yolov9) is fused into a new convolution ``conv``; its larger kernel, ``conv1.conv``, stands for it.
    after = {name for name, _ in fused(model, end2end=end2end).named_modules()}
    return frozenset(
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
        and (name in after or (name.endswith(".conv1.conv") and f"{name[: -len('.conv1.conv')]}.conv" in after))
    )
