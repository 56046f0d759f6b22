"""What one labelled forward pass records: which layers read and write which labels, and which labels must stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from yolo_slim.pruning.labels import Call, Labels, UnionFind, flat, labels_of

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
"""Layers that a cut narrows."""
UNKNOWN = "it reads channels that can't be followed"


@dataclass(frozen=True)
class Reason:
    """Why channels can't be removed."""

    text: str
    block: str = ""
    """Block that needs them: ``model.10.m.0.attn (Attention)``; empty for the network's input and output."""

    def __str__(self) -> str:
        return f"{self.block}: {self.text}" if self.block else self.text


IMAGE = Reason("the image has as many channels")
ANSWER = Reason("the network's output has as many channels")


@dataclass(kw_only=True)
class ConvSite:
    """A convolution, transposed convolution or linear layer with the labels it reads and writes.

    A label may stand for several channels (an attention head's rows); then it is repeated.
    """

    name: str
    inputs: Labels
    """Shape (Cin,)."""
    outputs: Labels
    """Shape (Cout,)."""
    kernel_area: int
    output_pixels: int
    """Positions at which the kernel is applied for the traced input size: height x width of the output, for a
    transposed convolution of the input, 1 for a linear layer."""
    depthwise: bool
    groups: int
    transposed: bool = False
    """Its weight is (Cin, Cout, kh, kw)."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates for one image."""
        return self.kernel_area * self.output_pixels * len(self.inputs) * len(self.outputs) / self.groups


@dataclass
class Trace:
    """The record of one labelled forward pass, filled while it runs."""

    names: dict[int, str]
    """Identity of a weight to the name of its module."""
    head: str
    """Name of the last layer."""
    splitters: tuple[type[nn.Module], ...] = ()
    """Blocks whose ``split`` may be followed: its sizes come from attributes that the cut keeps right."""
    labels: UnionFind = field(default_factory=UnionFind)
    convs: dict[str, ConvSite] = field(default_factory=dict)
    norms: dict[str, Labels] = field(default_factory=dict)
    """Normalisations, and parameters with one value a channel, by name."""
    frozen: list[tuple[Labels, Reason]] = field(default_factory=list)
    """Labels that stay, with the reason."""
    parts: list[list[Labels]] = field(default_factory=list)
    """Arrays of labels that must keep equal counts, position by position."""
    running: list[tuple[str, nn.Module]] = field(default_factory=list)
    """Modules that are running, the innermost last."""
    ran: set[str] = field(default_factory=set)
    """Modules that have run, by name."""
    lost: list[tuple[str, nn.Module]] = field(default_factory=list)
    """The innermost modules that were given labelled tensors and returned only others."""

    def freeze(self, values: Any, why: str | Reason) -> None:
        """Forbid the removal of every channel in ``values``: tensors or label arrays, nested or not.

        A text is about the block that is running; the head's own reason is always that the network answers with it.
        """
        reason = why if isinstance(why, Reason) else self._in_running_block(why)
        for value in flat(values):
            labels = value if isinstance(value, np.ndarray) else labels_of(value)
            if labels is not None:
                self.frozen.append((labels, reason))

    def freeze_inputs(self, call: Call) -> None:
        """Freeze the tensors that a call was given; an array among its arguments is an index and has no labels."""
        tensors = [value for value in call.inputs() if not isinstance(value, np.ndarray)]
        self.freeze(tensors, f"{call.name}() can't be followed channel by channel, so all channels that it reads stay")

    def _in_running_block(self, text: str) -> Reason:
        # A head decodes boxes by slices and anchors that can't be followed, and all of that are the answers.
        if not self.running or self.running[-1][0] == self.head:
            return ANSWER
        name, module = self.running[-1]
        return Reason(text, f"{name} ({type(module).__name__})")

    def name_of(self, module: nn.Module) -> str:
        """Name of a module that is running."""
        return next(name for name, running in reversed(self.running) if running is module)

    def known(self, value: Any, channels: int) -> Labels:
        """Labels of a value; where it has none, new ones that stay."""
        labels = labels_of(value)
        if labels is None:
            labels = self.labels.new(channels)
            self.freeze(labels, UNKNOWN)
        return labels

    def record(self, site: ConvSite) -> ConvSite:
        """Note that a layer runs; one that runs again must find equal channels both times, and writes equal ones."""
        before = self.convs.get(site.name)
        if before is None:
            self.convs[site.name] = site
            return site
        self.labels.merge(before.inputs, site.inputs)
        self.labels.merge(before.outputs, site.outputs)
        # Both runs cost MACs, so the positions of both count.
        before.output_pixels += site.output_pixels
        return before
