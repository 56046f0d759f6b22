"""Which channels must be kept or removed together.

:mod:`yolo_slim.pruning.tracing` runs the network once on labelled channels; here its records become spaces of
interchangeable channels and sets of spaces that keep equal counts. docs/adr/0001-channel-labels.md tells why this
replaces torch-pruning's graph tracing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.pruning import tracing
from yolo_slim.pruning.blocks import RULES, SPLITS_BY_ATTRIBUTE
from yolo_slim.pruning.tracing import INPUT, OUTPUT, ConvSite, Labels, Merger, Trace

__all__ = ["ChannelGraph", "ConvSite", "Labels", "Space", "trace_channels"]


@dataclass(kw_only=True)
class Space:
    """A set of interchangeable channels: the same count is kept wherever they appear."""

    channels: Labels
    """Labels of its channels, shape (n,)."""
    frozen: bool
    why: str = ""
    """What keeps it whole; empty where it isn't frozen."""
    unit: int = 1
    """Channels of a tensor that one label stands for: the size of an attention head, 1 elsewhere."""


@dataclass(kw_only=True)
class ChannelGraph:
    """All convolutions, normalisations and channel spaces of a network."""

    convs: dict[str, ConvSite]
    """Convolutions, transposed convolutions and linear layers."""
    norms: dict[str, Labels]
    """Normalisations, and parameters with one value a channel."""
    spaces: list[Space]
    tied: list[list[int]]
    """Sets of spaces that must keep equal counts; every space is in exactly one."""

    def members(self, space: Space) -> list[str]:
        """Return the convolutions that write the space's channels."""
        return list(dict.fromkeys(name for label in space.channels.tolist() for name in self._writers.get(label, ())))

    def kept_whole(self) -> dict[str, str]:
        """Return the convolutions whose outputs can't be cut, with the reason."""
        return {name: space.why for space in self.spaces if space.frozen for name in self.members(space)}

    def blocks_kept(self) -> dict[str, str]:
        """Return the blocks that keep channels whole, with what they do to them; the network's own answers aside."""
        reasons = dict.fromkeys(why for why in self.kept_whole().values() if why not in (OUTPUT, INPUT))
        return {block: what for block, _, what in (why.partition(": ") for why in reasons)}

    @cached_property
    def _writers(self) -> dict[int, list[str]]:
        """Map every label to the convolutions that write it."""
        writers: dict[int, list[str]] = {}
        for name, site in self.convs.items():
            for label in np.unique(site.outputs).tolist():
                writers.setdefault(label, []).append(name)
        return writers


def trace_channels(model: nn.Module, imgsz: int) -> ChannelGraph:
    """Return the channel graph of an Ultralytics model of any task.

    Args:
        model: an unfused model in float32; it isn't changed.
        imgsz: input side in pixels, for the MACs.

    Raises:
        SlimError: convolutions that a forward pass doesn't reach, blocks behind which channels can't be followed, or
            modules that share a weight.
    """
    trace = tracing.run(model, imgsz, RULES, SPLITS_BY_ATTRIBUTE)
    _require_reached(model, trace)
    merger = trace.merger
    for site in trace.convs.values():
        site.outputs, site.inputs = merger.roots(site.outputs), merger.roots(site.inputs)
    norms = {name: merger.roots(labels) for name, labels in trace.norms.items()}
    frozen = {int(label): why for labels, why in reversed(trace.frozen) for label in merger.roots(labels)}
    parts = [[merger.roots(part) for part in split] for split in trace.parts]
    spaces, home = _spaces(trace.convs, parts, frozen, len(merger))
    return ChannelGraph(convs=trace.convs, norms=norms, spaces=spaces, tied=_ties(parts, home, spaces))


def _require_reached(model: nn.Module, trace: Trace) -> None:
    """Raise for convolutions that never ran, or ran where the labels were lost: what they must match is unknown."""
    modules = dict(model.named_modules())
    homes = {
        name: type(modules[name.rpartition(".")[0]]).__name__
        for name in trace.names.values()
        if isinstance(modules[name], (nn.Conv2d, nn.ConvTranspose2d)) and name not in trace.convs
    }
    unreached = [name for name, home in homes.items() if home != "DFL"]
    if not unreached:
        return
    culprits = [f"{name} in {homes[name]}" for name in unreached]
    if trace.ran.issuperset(unreached):
        raise SlimError(
            "Channels can't be followed through some blocks, so what the layers behind them must match is unknown.",
            culprits=[f"{name} ({type(module).__name__})" for name, module in trace.lost] or culprits,
            remedy="Let their forward make tensors by torch.zeros_like(x) or x.new_zeros(...), not torch.zeros(...).",
        )
    raise SlimError(
        "Some convolutions are not reached by a forward pass, so what they must match is unknown.",
        culprits=culprits,
        remedy="Remove these layers from the model, or let its forward use them.",
    )


def _spaces(
    convs: dict[str, ConvSite], parts: list[list[Labels]], frozen: dict[int, str], count: int
) -> tuple[list[Space], dict[int, int]]:
    """Return the spaces and each label's space: channels written together, except where a split separates them."""
    colours = _colours(parts, count)
    joined = Merger()
    joined.new(count)
    atoms = [site.outputs for site in convs.values()]
    for atom in atoms:
        order = atom[np.argsort(colours[atom], kind="stable")]
        same = colours[order[1:]] == colours[order[:-1]]
        joined.merge(order[1:][same], order[:-1][same])
    groups: dict[int, list[int]] = {}
    for label in np.unique(np.concatenate(atoms)).tolist():
        groups.setdefault(joined.root(label), []).append(label)
    units = _units(convs)
    spaces = [_space(labels, frozen, units) for labels in groups.values()]
    return spaces, {label: i for i, space in enumerate(spaces) for label in space.channels.tolist()}


def _space(labels: list[int], frozen: dict[int, str], units: dict[int, int]) -> Space:
    """Return a space of these labels, frozen where one of them is."""
    why = next((frozen[label] for label in labels if label in frozen), "")
    unit = max(units.get(label, 1) for label in labels)
    return Space(channels=np.array(labels, dtype=np.int64), frozen=bool(why), why=why, unit=unit)


def _units(convs: dict[str, ConvSite]) -> dict[int, int]:
    """Return how often every label is read by one convolution where that is more than once."""
    units: dict[int, int] = {}
    for site in convs.values():
        if site.depthwise:
            for label, times in Counter(site.outputs.tolist()).items():
                if times > 1:
                    units[label] = max(times, units.get(label, 1))
    return units


def _colours(parts: list[list[Labels]], count: int) -> np.ndarray:
    """Return a colour for every label: labels of one colour are in the same parts, and so are their partners.

    Parts keep equal counts position by position, so where one is divided (by another split, or into heads), the others
    must be divided likewise: refined until nothing changes.
    """
    colours = np.zeros(count, dtype=np.int64)
    fresh = 1
    for split in parts:
        for part in split:
            colours[part] = fresh + np.unique(colours[part], return_inverse=True)[1]
            fresh = int(colours.max()) + 1
    before = 0
    while (now := len(np.unique(colours))) > before:
        before = now
        for split in parts:
            seen = [colours[part] for part in split]
            for part in split:
                for partner in seen:
                    pairs = colours[part] * (fresh + 1) + np.unique(partner, return_inverse=True)[1]
                    colours[part] = fresh + np.unique(pairs, return_inverse=True)[1]
                    fresh = int(colours.max()) + 1
    return colours


def _ties(parts: list[list[Labels]], home: dict[int, int], spaces: list[Space]) -> list[list[int]]:
    """Return the sets of spaces that must keep equal counts; a frozen member freezes its set."""
    merger = Merger()
    merger.new(len(spaces))
    for split in parts:
        unknown = [part for part in split if any(label not in home for label in part.tolist())]
        at = [np.array([home[label] for label in part.tolist() if label in home], dtype=np.int64) for part in split]
        if unknown:
            _freeze(spaces, np.concatenate(at).tolist(), "channels that can't be followed")
            continue
        for other in at[1:]:
            merger.merge(at[0], other)
    sets: dict[int, list[int]] = {}
    for i in range(len(spaces)):
        sets.setdefault(merger.root(i), []).append(i)
    for members in sets.values():
        why = next((spaces[i].why for i in members if spaces[i].frozen), "")
        if len({len(spaces[i].channels) for i in members}) > 1:
            why = why or "halves of a split that can't be kept equal"
        if why:
            _freeze(spaces, members, why)
    return list(sets.values())


def _freeze(spaces: list[Space], members: list[int], why: str) -> None:
    """Freeze spaces that aren't frozen yet."""
    for i in members:
        if not spaces[i].frozen:
            spaces[i].frozen, spaces[i].why = True, why
