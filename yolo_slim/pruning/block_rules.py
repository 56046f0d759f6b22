"""Rules for Ultralytics' own blocks: forwards that can't be followed call by call, and attributes that a cut changes.

Everything here was read in the source of ultralytics 8.4.190. A rule is for exactly the named class, because a
subclass may have another forward; unknown blocks are followed call by call and keep what isn't understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from ultralytics.nn.modules import block, conv

from yolo_slim.pruning.labels import Labels, label, labels_of, plain
from yolo_slim.pruning.trace import Trace
from yolo_slim.pruning.tracing import BlockRules

KEYS_STAY = "its queries and keys stay, because the attention's fixed scale depends on their number"
"""In Attention's constructor: ``scale = key_dim**-0.5``."""


def _attention(trace: Trace, module: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention of PSA, C2PSA and C3k2: every head gives up as many value channels as the others.

    The rows of ``qkv`` are, head by head: queries, keys, values.
    """
    rows = labels_of(module.qkv(x))
    assert rows is not None
    per_head = rows.reshape(module.num_heads, -1)
    trace.freeze(per_head[:, : 2 * module.key_dim].reshape(-1), KEYS_STAY)
    # The forward views its output at the width that comes in, which ties heads x head size to that width. Whole heads
    # would let it change in steps of one head (64 channels): half or nothing in every n model, which has two.
    values = [head[2 * module.key_dim :] for head in per_head]
    stream = labels_of(x)
    if stream is None:
        trace.freeze(values, "its attention adds values to channels that can't be followed")
    else:
        trace.parts += [values, [stream, np.concatenate(values)]]
    return _project(module, x, np.concatenate(values))


def _area_attention(trace: Trace, module: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention of A2C2f (yolo12): whole heads go, whatever the width that comes in."""
    rows = labels_of(module.qkv(x))
    assert rows is not None
    per_head = rows.reshape(module.num_heads, -1)
    for head in per_head:
        trace.labels.merge(head[1:], head[:-1])
    values = [trace.labels.roots(head[2 * module.head_dim :]) for head in per_head]
    return _project(module, x, np.concatenate(values))


def _project(module: Any, x: torch.Tensor, values: Labels) -> torch.Tensor:
    """The output of an attention block whose values have these labels."""
    # Attention mixes positions and never channels, so its result has the labels of the values.
    mixed = label(torch.zeros(len(x), len(values), *x.shape[2:], device=x.device), values)
    projected = module.proj(mixed + module.pe(mixed))
    return projected if isinstance(projected, torch.Tensor) else x


def _scaled_residual(trace: Trace, module: Any, x: torch.Tensor) -> torch.Tensor:
    """A2C2f: its parameter ``gamma`` has one value a channel, like a normalisation."""
    y = [module.cv1(x)]
    y.extend(m(y[-1]) for m in module.m)
    out: torch.Tensor = module.cv2(torch.cat(y, 1))
    if module.gamma is None:
        return out
    labels = labels_of(out)
    assert labels is not None
    # gamma has no labels, so a product with it would freeze the channels; only the sum is followed.
    trace.norms[f"{trace.name_of(module)}.gamma"] = labels
    return x + out


def _several_outputs(trace: Trace, module: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """CBLinear (yolov9): one convolution for several readers, each of which gets a width of its own."""
    out = module.conv(x)
    labels = labels_of(out)
    assert labels is not None
    start, parts = 0, []
    for width in module.c2s:
        part = labels[start : start + width]
        # A split into one part: it keeps a count of its own, while the convolution's other channels keep theirs.
        trace.parts.append([part])
        parts.append(label(plain(out)[:, start : start + width], part))
        start += width
    return tuple(parts)


def _sum_of_levels(_: Trace, module: Any, xs: Sequence[Any]) -> torch.Tensor:
    """CBFuse (yolov9): the sum of resized outputs of several CBLinear."""
    # The forward sums torch.stack(...), which would freeze its inputs; additions merge their labels instead.
    total: torch.Tensor = xs[-1]
    for chosen, x in zip(module.idx, xs[:-1], strict=False):
        total = functional.interpolate(x[chosen], size=xs[-1].shape[2:], mode="nearest") + total
    return total


RULES = BlockRules(
    forwards={
        block.Attention: _attention,
        block.AAttn: _area_attention,
        block.A2C2f: _scaled_residual,
        block.CBLinear: _several_outputs,
        block.CBFuse: _sum_of_levels,
    },
    # These split by ``self.c``, which update_attributes keeps right; the sizes in any other split may be constants.
    splitters=(block.PSA, block.C2PSA),
)


def update_attributes(module: Any, kept: Sequence[int] | None) -> None:
    """Set what a stock block's forward, fusing or export reads, from the widths of its cut convolutions.

    Args:
        module: any module; other classes than these blocks have nothing to set.
        kept: outputs that stay of a CBLinear's convolution, in channels before the cut.
    """
    # Subclasses too (C3k2, C2fCIB, ELAN1), which inherit these attributes. The exporter splits a C2f by ``c``.
    if isinstance(module, (block.C2f, block.C2, block.PSA, block.C2PSA, block.RepNCSPELAN4)):
        module.c = module.cv1.conv.out_channels // 2
    elif isinstance(module, (block.ADown, block.SPPELAN)):
        module.c = module.cv1.conv.out_channels
    elif isinstance(module, block.Attention):
        # ``scale`` and ``key_dim`` stay as the keys do.
        module.head_dim = module.qkv.conv.out_channels // module.num_heads - 2 * module.key_dim
    elif isinstance(module, block.AAttn):
        module.num_heads = module.qkv.conv.out_channels // (3 * module.head_dim)
        module.all_head_dim = module.num_heads * module.head_dim
    elif isinstance(module, conv.RepConv):
        # Fusing makes the kernel of the identity branch from ``c1``.
        module.c1, module.c2 = module.conv1.conv.in_channels, module.conv1.conv.out_channels
    elif isinstance(module, block.RepVGGDW):
        module.dim = module.conv.conv.out_channels
    elif isinstance(module, block.CBLinear) and kept is not None:
        ends = [sum(module.c2s[: i + 1]) for i in range(len(module.c2s))]
        starts = [0, *ends[:-1]]
        module.c2s = [sum(a <= row < b for row in kept) for a, b in zip(starts, ends, strict=True)]
