"""Which channels must be kept or removed together.

:mod:`yolo_slim.pruning.tracing` runs the network once on labelled channels; here its record becomes spaces of
interchangeable channels, and sets of spaces that keep equal counts. docs/adr/0001-channel-labels.md says why this
replaces torch-pruning's graph tracing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.pruning.block_rules import RULES
from yolo_slim.pruning.labels import Labels, UnionFind
from yolo_slim.pruning.trace import ANSWER, IMAGE, UNKNOWN, ConvSite, Reason, Trace
from yolo_slim.pruning.tracing import trace_model

UNEQUAL_PARTS = Reason("the parts of its split can't be kept equally wide")


@dataclass(kw_only=True)
class Space:
    """A set of interchangeable channels: the same count is kept wherever they appear."""

    channels: Labels
    """Labels of its channels, shape (n,)."""
    reason: Reason | None = None
    """Why none of them may go; None where they may."""
    unit: int = 1
    """Channels of a tensor that one label stands for: the size of an attention head, 1 elsewhere."""

    @property
    def frozen(self) -> bool:
        """Whether all of its channels must stay."""
        return self.reason is not None


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
        """Convolutions that write the space's channels."""
        return list(dict.fromkeys(name for label in space.channels.tolist() for name in self._writers.get(label, ())))

    def kept_layers(self) -> dict[str, Reason]:
        """Convolutions of whose outputs some can't be removed, with the reason."""
        return {name: space.reason for space in self.spaces if space.reason for name in self.members(space)}

    def blocks_kept(self) -> dict[str, str]:
        """Blocks that keep channels because of what they compute: name to which stay, why, and what that costs.

        The cost is the share of the traced network's MACs that compute the channels which stay. Layers that are as wide
        as the image or the network's output are left out.
        """
        kept: dict[str, list[Space]] = {}
        for space in self.spaces:
            if space.reason is not None and space.reason not in (IMAGE, ANSWER):
                block = space.reason.block or (self.members(space) or ["?"])[0]
                kept.setdefault(block, []).append(space)
        return {block: self._described(spaces) for block, spaces in kept.items()}

    def _described(self, spaces: list[Space]) -> str:
        """Why spaces stay, with their share of the MACs."""
        reasons = dict.fromkeys(space.reason.text for space in spaces if space.reason)
        macs = sum(self._macs_of(space, name) for space in spaces for name in self.members(space))
        share = macs / sum(site.macs for site in self.convs.values())
        return f"{'; '.join(reasons)} ({f'{share:.0%}' if share >= 0.01 else 'less than 1%'} of the MACs)"

    def _macs_of(self, space: Space, conv: str) -> float:
        """MACs that a convolution spends on the space's channels."""
        site = self.convs[conv]
        return site.macs * float(np.isin(site.outputs, space.channels).mean())

    @cached_property
    def _writers(self) -> dict[int, list[str]]:
        """Every label, with the convolutions that write it."""
        writers: dict[int, list[str]] = {}
        for name, site in self.convs.items():
            for label in np.unique(site.outputs).tolist():
                writers.setdefault(label, []).append(name)
        return writers


def trace_channels(model: nn.Module, imgsz: int) -> ChannelGraph:
    """Find out which channels of an Ultralytics model of any task depend on each other.

    Args:
        model: an unfused model in float32; it isn't changed.
        imgsz: input side in pixels, for the MACs.

    Raises:
        SlimError: convolutions that a forward pass doesn't reach, blocks behind which channels can't be followed, or
            modules that share a weight.
    """
    trace = trace_model(model, imgsz, RULES)
    _require_reached(model, trace)
    # Labels were merged while the network ran, so the records have older ones.
    roots = trace.labels.roots
    for site in trace.convs.values():
        site.outputs, site.inputs = roots(site.outputs), roots(site.inputs)
    norms = {name: roots(labels) for name, labels in trace.norms.items()}
    # Reversed, so that the reason that came first is the one that is named.
    frozen = {int(label): why for labels, why in reversed(trace.frozen) for label in roots(labels)}
    parts = [[roots(part) for part in split] for split in trace.parts]
    spaces, home = _spaces(trace, parts, frozen)
    return ChannelGraph(convs=trace.convs, norms=norms, spaces=spaces, tied=_ties(parts, home, spaces))


def _require_reached(model: nn.Module, trace: Trace) -> None:
    """Raise for convolutions that never ran, or ran where the labels were lost: what they must match is unknown."""
    modules = dict(model.named_modules())
    homes = {
        name: type(modules[name.rpartition(".")[0]]).__name__
        for name in trace.names.values()
        if isinstance(modules[name], (nn.Conv2d, nn.ConvTranspose2d)) and name not in trace.convs
    }
    # DFL's convolution multiplies by the constants 0 to reg_max - 1; it only runs when boxes are decoded.
    unreached = [name for name, home in homes.items() if home != "DFL"]
    if not unreached:
        return
    culprits = [f"{name} in {homes[name]}" for name in unreached]
    if trace.ran.issuperset(unreached):
        raise SlimError(
            "Channels can't be followed through some blocks, so what the layers behind them must match is unknown.",
            culprits=[f"{name} ({type(module).__name__})" for name, module in trace.lost] or culprits,
            remedy="Let their forward make tensors by torch.zeros_like(x) or x.new_zeros(...), not torch.zeros(...).",
            topic="a-block-cant-be-followed",
        )
    raise SlimError(
        "Some convolutions are not reached by a forward pass, so what they must match is unknown.",
        culprits=culprits,
        remedy="Remove these layers from the model, or let its forward use them.",
        topic="a-block-cant-be-followed",
    )


def _spaces(trace: Trace, parts: list[list[Labels]], frozen: dict[int, Reason]) -> tuple[list[Space], dict[int, int]]:
    """Channels that are written together, except where a split separates them; and each label's space."""
    # Two channels are interchangeable if one layer writes them and no split has them in different parts.
    colours = _colours(parts, len(trace.labels))
    joined = UnionFind()
    joined.new(len(trace.labels))
    written = [site.outputs for site in trace.convs.values()]
    for outputs in written:
        order = outputs[np.argsort(colours[outputs], kind="stable")]
        same = colours[order[1:]] == colours[order[:-1]]
        joined.merge(order[1:][same], order[:-1][same])
    groups: dict[int, list[int]] = {}
    for label in np.unique(np.concatenate(written)).tolist():
        groups.setdefault(joined.root(label), []).append(label)
    units = _units(trace.convs)
    spaces = [_space(labels, frozen, units) for labels in groups.values()]
    return spaces, {label: i for i, space in enumerate(spaces) for label in space.channels.tolist()}


def _space(labels: list[int], frozen: dict[int, Reason], units: dict[int, int]) -> Space:
    """A space of these labels; one that must stay freezes all, because allocation decides counts and not channels."""
    return Space(
        channels=np.array(labels, dtype=np.int64),
        reason=next((frozen[label] for label in labels if label in frozen), None),
        unit=max(units.get(label, 1) for label in labels),
    )


def _units(convs: dict[str, ConvSite]) -> dict[int, int]:
    """How often one depthwise convolution has a label, where that is more than once."""
    # An attention head has one label for all its channels; its positional convolution is depthwise over them.
    units: dict[int, int] = {}
    for site in convs.values():
        if site.depthwise:
            for label, times in Counter(site.outputs.tolist()).items():
                if times > 1:
                    units[label] = max(times, units.get(label, 1))
    return units


def _colours(parts: list[list[Labels]], count: int) -> np.ndarray:
    """A colour for every label, shape (count,): labels of one colour are in the same parts, and so are their partners.

    Parts keep equal counts position by position, so where one is divided (by another split, or into heads), the others
    must be divided likewise: colour refinement (Weisfeiler and Leman 1968), repeated until nothing changes.
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
                    # One number for the pair of own and partner's colour.
                    pairs = colours[part] * (fresh + 1) + np.unique(partner, return_inverse=True)[1]
                    colours[part] = fresh + np.unique(pairs, return_inverse=True)[1]
                    fresh = int(colours.max()) + 1
    return colours


def _ties(parts: list[list[Labels]], home: dict[int, int], spaces: list[Space]) -> list[list[int]]:
    """Sets of spaces that must keep equal counts; a frozen member freezes its set."""
    equal = UnionFind()
    equal.new(len(spaces))
    for split in parts:
        # Channels that no convolution writes can't be removed, so their partners can't either.
        unknown = [part for part in split if any(label not in home for label in part.tolist())]
        at = [np.array([home[label] for label in part.tolist() if label in home], dtype=np.int64) for part in split]
        if unknown:
            _freeze(spaces, np.concatenate(at).tolist(), Reason(UNKNOWN))
            continue
        for other in at[1:]:
            equal.merge(at[0], other)
    sets: dict[int, list[int]] = {}
    for i in range(len(spaces)):
        sets.setdefault(equal.root(i), []).append(i)
    for members in sets.values():
        why = next((spaces[i].reason for i in members if spaces[i].frozen), None)
        if len({len(spaces[i].channels) for i in members}) > 1:
            why = why or UNEQUAL_PARTS
        if why is not None:
            _freeze(spaces, members, why)
    return list(sets.values())


def _freeze(spaces: list[Space], members: list[int], why: Reason) -> None:
    """Give spaces a reason to stay, where they have none yet."""
    for i in members:
        spaces[i].reason = spaces[i].reason or why
