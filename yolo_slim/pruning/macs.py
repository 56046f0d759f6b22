"""Multiply-accumulates and parameters of the graph that is exported."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a network costs."""

    params: int
    """Parameters of the fused graph."""
    macs: int
    """Multiply-accumulates of the fused graph for one image."""

    def to_json(self) -> dict[str, int]:
        """Return both as a JSON value."""
        return asdict(self)


def fused(model: nn.Module, *, end2end: bool) -> nn.Module:
    """Return a fused copy in evaluation mode with one head: what the exporter traces."""
    copied = copy.deepcopy(model).float().eval()
    copied.criterion = None  # type: ignore[assignment]
    if hasattr(copied, "end2end"):
        copied.end2end = end2end  # type: ignore[assignment]
    fuse = copied.fuse
    fuse(verbose=False)  # type: ignore[operator]
    return copied


def measure(model: nn.Module, imgsz: int, *, end2end: bool = False) -> Size:
    """Return the size of a detection model's fused graph, counted by torch-pruning.

    Args:
        model: an unfused ``DetectionModel``; it isn't changed.
        imgsz: input side in pixels.
        end2end: count yolo26's one-to-one head in place of its one-to-many head.
    """
    import torch_pruning

    graph = fused(model, end2end=end2end)
    with torch.no_grad():
        macs, _ = torch_pruning.utils.count_ops_and_params(graph, torch.zeros(1, 3, imgsz, imgsz))
    return Size(params=sum(p.numel() for p in graph.parameters()), macs=int(macs))
