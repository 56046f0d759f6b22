"""Faster training on a CPU: channels last, bfloat16 where the processor multiplies it, a teacher without batch norms.

Ultralytics trains in float32 and channels-first on every CPU. Channels last changes the order in memory alone. Mixed
precision keeps weights, statistics, optimizer and loss in float32; convolutions round their inputs to bfloat16, which
is faster only with AVX512-BF16 or AMX (docs/benchmarks/training.md).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Conv, DWConv
from ultralytics.utils.torch_utils import fuse_conv_and_bn

MULTIPLIES_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""Processor features without which bfloat16 is slower than float32."""


def has_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 itself."""
    found = torch.cpu.get_capabilities()
    return any(found.get(feature) for feature in MULTIPLIES_BFLOAT16)


def as_float32(value: Any) -> Any:
    """Convert every floating-point tensor in nested dictionaries, lists and tuples to float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: as_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(as_float32(item) for item in value)
    return value


class Float32Criterion:
    """A criterion that computes the loss of a network's bfloat16 outputs in float32."""

    # Box sides in bfloat16 would be off by up to .1 grid cells (8 bits for 0 to 40).

    def __init__(self, criterion: Any) -> None:
        self.criterion = criterion

    def __getattr__(self, name: str) -> Any:
        """Look up in the wrapped criterion, whose ``update`` the trainer calls after each epoch where it exists."""
        # copy and pickle ask before there is a criterion, and expect AttributeError.
        if name == "criterion":
            raise AttributeError(name)
        return getattr(self.criterion, name)

    def __call__(self, preds: Any, batch: Mapping[str, object]) -> Any:
        """Call the criterion outside of mixed precision."""
        with torch.autocast("cpu", enabled=False):
            return self.criterion(as_float32(preds), batch)


def fused(model: nn.Module) -> nn.Module:
    """A copy for inference with every batch normalisation folded into its convolution."""
    # Not by model.fuse(), which drops the one-to-many head of a model that has two.
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        # Exactly these classes: a subclass, such as RepConv, may have several branches.
        if type(module) in (Conv, DWConv) and hasattr(module, "bn"):
            module.conv = fuse_conv_and_bn(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fuse  # type: ignore[assignment]
    return model
