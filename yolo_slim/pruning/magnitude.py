"""Scores that need no data: what the weights alone say about a channel.

Coupled channels (equal labels) are scored as one: the sum over every layer that writes or reads them, as torch-pruning
does with ``group_reduction="sum"``. torch-pruning's importance classes need its dependency groups, which it can't trace
in stock YOLO blocks, so the sums are made here over labels. Its normalisation takes plain tensors, and is used as is.

``l1``, ``l2``: Li et al. 2017. ``bn``: Liu et al. 2017, Network Slimming. ``lamp``: Lee et al. 2021. ``fpgm``: He et
al. 2019, on the weights themselves; torch-pruning squares them first, which makes w and -w the same filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from yolo_slim.pruning.groups import ChannelGraph

Scores = np.ndarray
"""Score of every label, shape (labels,), float64; NaN where a criterion has nothing to say."""
Weighted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

NORMALIZERS = {"sum": "sum", "mean": "mean", "max": "max", "standard": "standarization", "median": "sentinel_0.5"}
"""Setting to torch-pruning's own name (its spelling); its ``gaussian`` gives negative scores, which can't be summed."""
LEAST = 1e-30
"""Smallest divisor, where all scores are 0."""


def label_count(graph: ChannelGraph) -> int:
    """One more than the largest label."""
    return 1 + max(int(max(site.outputs.max(), site.inputs.max())) for site in graph.convs.values())


def weighted(model: nn.Module, graph: ChannelGraph) -> list[tuple[str, Weighted]]:
    """The graph's convolutions and linear layers by name."""
    modules = model.named_modules()
    return [(name, m) for name, m in modules if name in graph.convs and isinstance(m, Weighted)]


def magnitude(model: nn.Module, graph: ChannelGraph, criterion: str) -> Scores:
    """Score every label by ``l1``, ``l2``, ``lamp``, ``bn`` or ``fpgm``."""
    if criterion == "bn":
        return bn_scale(model, graph)
    weights = {name: module.weight.detach() for name, module in weighted(model, graph)}
    if criterion == "fpgm":
        return summed(graph, weights, _distances)
    # lamp is l2 as a share, so both start from squares.
    power = 1 if criterion == "l1" else 2
    scores = summed(graph, {name: weight.abs().pow(power) for name, weight in weights.items()})
    return lamp(graph, scores) if criterion == "lamp" else scores


def lamp(graph: ChannelGraph, scores: Scores) -> Scores:
    """Each score as a share of the scores at least as large in the same space (Lee et al. 2021, eq. 4)."""
    scores = scores.copy()
    for space in graph.spaces:
        order = space.channels[np.argsort(scores[space.channels], kind="stable")]
        tail = np.cumsum(scores[order][::-1])[::-1]
        scores[order] = scores[order] / np.maximum(tail, LEAST)
    return scores


def bn_scale(model: nn.Module, graph: ChannelGraph) -> Scores:
    """Sum of |gamma| of the batch normalisations of every label, NaN where none follows."""
    scores = np.full(label_count(graph), np.nan)
    for name, module in model.named_modules():
        if name in graph.norms and isinstance(module, nn.BatchNorm2d):
            labels = graph.norms[name]
            # NaN means no normalisation at all, so the first one starts from 0.
            scores[np.unique(labels)] = np.nan_to_num(scores[np.unique(labels)])
            np.add.at(scores, labels, module.weight.detach().abs().double().numpy())
    return scores


def normalized(graph: ChannelGraph, scores: Scores, normalize: str) -> Scores:
    """Scores relative to their own space, so that layers of another scale compare.

    Args:
        graph: the channel graph.
        scores: score of every label.
        normalize: ``none``, or a key of :data:`NORMALIZERS`.
    """
    if normalize == "none":
        return scores
    from torch_pruning.pruner.importance import GroupMagnitudeImportance

    scale = GroupMagnitudeImportance()._normalize
    scores = scores.copy()
    for space in graph.spaces:
        own = torch.from_numpy(scores[space.channels])
        # All 0 would be divided by 0; NaN, which compares as false, stays NaN.
        if own.sum() > 0:
            scores[space.channels] = scale(own, NORMALIZERS[normalize]).numpy()
    return scores


def _total(rows: torch.Tensor) -> torch.Tensor:
    return rows.sum(dim=1)


def summed(
    graph: ChannelGraph, values: Mapping[str, torch.Tensor], rate: Callable[[torch.Tensor], torch.Tensor] = _total
) -> Scores:
    """Sum ``rate`` for every label over the layers that write or read it.

    Args:
        graph: the channel graph.
        values: layer to values shaped as its weights.
        rate: from values by channel, shape (channels, values), to a score by channel.
    """
    scores = np.zeros(label_count(graph))
    for name, value in values.items():
        # In double precision: the order of summation must not decide between channels.
        site, by_writer = graph.convs[name], value.double()
        # A depthwise transposed weight, (C, 1, kh, kw), begins with the output channels already.
        if site.transposed and site.groups == 1:
            by_writer = by_writer.transpose(0, 1)
        # Not `+=`: it would count a repeated label (an attention head's) once.
        np.add.at(scores, site.outputs, rate(by_writer.flatten(1)).numpy())
        # The weights of a depthwise convolution have one input channel, which is the output's.
        if site.groups == 1:
            np.add.at(scores, site.inputs, rate(by_writer.transpose(0, 1).flatten(1)).numpy())
    return scores


def _distances(rows: torch.Tensor) -> torch.Tensor:
    """Each row's summed distance to all others: small for a filter that the others can replace."""
    return torch.cdist(rows, rows).sum(dim=1)
