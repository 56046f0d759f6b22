"""A narrower stock network of the same family: the width multiple of the model's own yaml scaled until the MACs fit.

Its weights are random, or the leading channels of the user's: the first of every layer, the first of either half where
a block splits, the first queries, keys and values of an attention. Concatenations are followed by channel labels
(:mod:`yolo_slim.pruning.groups`), so that a layer still reads the channels that it was trained to read.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.nn.modules import block
from ultralytics.nn.tasks import DetectionModel

from yolo_slim.errors import SlimError
from yolo_slim.models.checkpoint import Checkpoint
from yolo_slim.models.macs import conv_widths, measure
from yolo_slim.pruning.groups import ChannelGraph, trace_channels

PARTS = 64
"""Number of equal parts of the network's own width that are tried where some widths can't be built."""
FAR = 0.1
"""Share of the MACs by which the nearest of those may miss the wanted MACs."""
STEPS = 12
"""Halvings of the width's interval: stock widths go in steps of 8 channels, so more would find the same networks."""
TRACE_STRIDES = 2
"""Side of the image that channels are traced with, in strides of the network."""
HALVED = (block.C2f, block.C2, block.PSA, block.C2PSA, block.RepNCSPELAN4)
"""Blocks whose ``cv1`` writes two halves; subclasses too."""
READS_HALVES = (block.ADown,)
"""Blocks whose ``cv1`` and ``cv2`` read one half each of what comes in."""


def stock_yaml(model: nn.Module, width: float | None = None) -> tuple[dict[str, Any], float]:
    """Give the network's own yaml, at another width multiple where one is given, and its own width multiple."""
    described = copy.deepcopy(dict(model.yaml))  # type: ignore[arg-type]
    scales, scale = described.get("scales"), described.get("scale")
    if not scales:
        own = float(described.get("width_multiple", 1.0))
        return {**described, "width_multiple": own if width is None else width}, own
    # As in Ultralytics, the first scale counts where the yaml names none.
    scale = scale or next(iter(scales))
    depth, own, most = scales[scale]
    described |= {"scale": scale, "scales": {scale: [depth, own if width is None else width, most]}}
    return described, float(own)


def stock_model(checkpoint: Checkpoint, width: float | None = None) -> nn.Module:
    """Build a network of the checkpoint's yaml with random weights, its classes and its training arguments.

    Raises:
        ValueError, AssertionError, RuntimeError: no network of that width can be built.
    """
    described, _ = stock_yaml(checkpoint.model, width)
    channels = int(described.get("channels", 3))
    model = DetectionModel(described, ch=channels, nc=len(checkpoint.names), verbose=False)
    model.names = checkpoint.names
    model.args = checkpoint.model.args
    return model.float().eval().requires_grad_(False)


def find_width(checkpoint: Checkpoint, macs: float, *, imgsz: int, end2end: bool) -> float:
    """Find the width multiple at which the fused MACs of the stock network come nearest to ``macs``.

    Raises:
        SlimError: the checkpoint isn't the network that its yaml describes, or no width that can be built comes near.
    """
    _require_stock(checkpoint)
    before = stock_yaml(checkpoint.model)[1]
    failed: list[float] = []

    def cost(width: float) -> float | None:
        found = stock_macs(checkpoint, width, imgsz, end2end)
        failed.extend([width] if found is None else [])
        return found

    width = nearest(cost, macs, low=before / 16, high=before, steps=STEPS)
    if failed:
        # Blocks whose heads have a fixed size (yolo12's) can be built at few widths only, with gaps in between.
        # The widths begin at a 16th, as those of the search above.
        found = {before * part / PARTS: cost(before * part / PARTS) for part in range(PARTS // 16, PARTS)}
        possible = {width: macs for width, macs in found.items() if macs is not None}
        width = min(possible, key=lambda width: abs(possible[width] - macs), default=before)
        _require_near(possible.get(width), macs, stock_macs(checkpoint, before, imgsz, end2end))
    return width


def _require_near(found: float | None, wanted: float, full: float | None) -> None:
    """Refuse a network whose MACs are far from the wanted ones."""
    # Not `>`: NaN is near nothing.
    if found is None or full is None or not abs(found - wanted) <= FAR * full:
        nearest_one = "" if found is None or full is None else f"; the nearest has {found / full:.0%}"
        raise SlimError(
            f"The family has no narrower member with {wanted / (full or wanted):.0%} of the MACs{nearest_one}: its "
            "attention heads divide few widths."
        )


def nearest(cost: Callable[[float], float | None], wanted: float, *, low: float, high: float, steps: int) -> float:
    """Find the argument in [low, high] whose cost comes nearest, among those that halving the interval visits.

    Args:
        cost: grows with its argument; None where it is unknown, which counts as too little.
        wanted: the cost to reach.
        low: least argument.
        high: largest argument; its cost is known.
        steps: halvings.
    """
    best, error = high, float("inf")
    for _ in range(steps):
        middle = (low + high) / 2
        found = cost(middle)
        if found is not None and abs(found - wanted) < error:
            best, error = middle, abs(found - wanted)
        low, high = (low, middle) if found is not None and found > wanted else (middle, high)
    return best


def stock_macs(checkpoint: Checkpoint, width: float, imgsz: int, end2end: bool) -> float | None:
    """Count the MACs of the stock network at a width; None where it can't be built (heads that don't divide)."""
    try:
        return measure(stock_model(checkpoint, width), imgsz, end2end=end2end).macs
    except (ValueError, AssertionError, RuntimeError):
        return None


def _require_stock(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that is narrower than its yaml says: it was pruned before.

    It may be wider: fine-tuning keeps the class branch of the head as wide as the pretraining's classes made it.
    """
    wanted, found = conv_widths(stock_model(checkpoint)), conv_widths(checkpoint.model)
    narrower = [
        f"{name}: {found.get(name, 0)}, its yaml says {width}"
        for name, width in wanted.items()
        if found.get(name, 0) < width
    ]
    if narrower:
        raise SlimError(
            "The checkpoint isn't the network that its yaml describes, so its family has no narrower member.",
            culprits=narrower,
            remedy="Give a checkpoint that was never pruned.",
        )


@torch.no_grad()
def take_leading(source: nn.Module, target: nn.Module, stride: int) -> None:
    """Give a narrower network of the same yaml the leading channels of another one's weights and statistics.

    Args:
        source: the wider network.
        target: the narrower one; its weights are replaced.
        stride: largest stride, pixels.
    """
    graphs = [trace_channels(model, TRACE_STRIDES * stride) for model in (source, target)]
    rows, columns, norms = leading(source, target, *graphs)
    state, values = target.state_dict(), source.state_dict()
    for name, into in state.items():
        owner = name.rpartition(".")[0]
        taken = values[name]
        # Scalars, such as num_batches_tracked, have no channels and are copied whole.
        if owner in rows and into.ndim:
            taken = _cut(taken, rows[owner], columns.get(owner), source.get_submodule(owner))
        elif (key := name if name in norms else owner) in norms and into.ndim:
            taken = taken[norms[key]]
        into.copy_(taken)


def _cut(values: torch.Tensor, rows: np.ndarray, columns: np.ndarray | None, layer: nn.Module) -> torch.Tensor:
    """Select the wanted outputs, and of a kernel the wanted inputs (None: it has none of its own)."""
    transposed = isinstance(layer, nn.ConvTranspose2d) and values.ndim > 1
    cut = values.index_select(1 if transposed else 0, torch.as_tensor(rows))
    if values.ndim > 1 and columns is not None:
        cut = cut.index_select(0 if transposed else 1, torch.as_tensor(columns))
    return cut


Indices = dict[str, np.ndarray]
"""Layer to positions in the wider network's layer."""


def leading(
    source: nn.Module, target: nn.Module, wide: ChannelGraph, slim: ChannelGraph
) -> tuple[Indices, Indices, Indices]:
    """Choose the outputs, inputs and normalised channels that every layer of the narrower network takes."""
    halved = _read_in_halves(source, slim)
    partner: dict[int, int] = {}
    rows: Indices = {}
    columns: Indices = {}
    for name, site in slim.convs.items():
        theirs = wide.convs[name]
        own = np.array(list(_leading_rows(name, source, target, in_halves=name in halved)))
        if site.depthwise:
            # It writes the channels that it reads, so it can't choose its own.
            own = _positions(site.outputs, theirs.outputs, partner)
        rows[name] = own
        for label, row in zip(site.outputs.tolist(), own.tolist(), strict=True):
            partner.setdefault(label, int(theirs.outputs[row]))
        if not site.depthwise and site.groups == 1:
            columns[name] = _positions(site.inputs, theirs.inputs, partner)
    norms = {name: _positions(labels, wide.norms[name], partner) for name, labels in slim.norms.items()}
    return rows, columns, norms


def _positions(labels: np.ndarray, among: np.ndarray, partner: dict[int, int]) -> np.ndarray:
    """Find where the wider network's layer has the partners of these labels; the same place where it has none."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, label in enumerate(among.tolist()):
        places[label].append(place)
    # A label occurs twice where a concatenation repeats a layer: the n-th use here takes the n-th place there.
    used: dict[int, int] = defaultdict(int)
    found = []
    for place, label in enumerate(labels.tolist()):
        there = places.get(partner.get(label, -1), [])
        found.append(there[min(used[label], len(there) - 1)] if there else place)
        used[label] += 1
    return np.array(found)


def _read_in_halves(source: nn.Module, slim: ChannelGraph) -> set[str]:
    """Find the convolutions all of whose outputs go into blocks that split what they read."""
    names = [name for name, module in source.named_modules() if isinstance(module, READS_HALVES)]
    read = {label for name in names for half in ("cv1", "cv2") for label in slim.convs[f"{name}.{half}.conv"].inputs}
    return {name for name, site in slim.convs.items() if read.issuperset(site.outputs.tolist())}


def _leading_rows(name: str, source: nn.Module, target: nn.Module, *, in_halves: bool) -> Iterator[int]:
    """Yield the outputs of the wider layer that the narrower one takes."""
    path = name.split(".")
    wide, slim = (_width(model.get_submodule(name)) for model in (source, target))
    owner = source.get_submodule(".".join(path[:-2]))
    if path[-2:] == ["qkv", "conv"] and isinstance(owner, block.Attention):
        narrower = target.get_submodule(".".join(path[:-2]))
        yield from _attention_rows(owner, narrower)
        return
    halves = 2 if in_halves or (path[-2:] == ["cv1", "conv"] and isinstance(owner, HALVED)) else 1
    for half in range(halves):
        yield from range(half * wide // halves, half * wide // halves + slim // halves)


def _attention_rows(wide: Any, slim: Any) -> Iterator[int]:
    """Yield the rows of an attention's first queries, keys and values, counted over all heads."""
    # Ultralytics' qkv has the rows of one head after the other, in each the queries, keys and values.
    for head in range(slim.num_heads):
        for part in range(3):
            size, before = ((a.head_dim if part == 2 else a.key_dim) for a in (slim, wide))
            for index in range(head * size, (head + 1) * size):
                start = (index // before) * (2 * wide.key_dim + wide.head_dim) + part * wide.key_dim
                yield start + index % before


def _width(layer: nn.Module) -> int:
    """Number of channels that a layer writes."""
    return layer.out_features if isinstance(layer, nn.Linear) else int(layer.out_channels)  # type: ignore[arg-type]
