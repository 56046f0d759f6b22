"""Which channels must be kept or removed together.

The network runs once on a tensor whose channels carry labels. A convolution gives its outputs new labels; an addition
makes two labels the same; concatenation and ``chunk`` move them; whatever this module does not understand freezes the
labels that reach it. One forward pass costs milliseconds for any network, and blocks that split a tensor (C2f, C3k2,
C2PSA) need no rewriting. docs/adr/0001-channel-labels.md tells why this replaces torch-pruning's graph tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.errors import SlimError

Labels = np.ndarray
"""One integer label a channel: shape (C,), int64."""

FIXED_WIDTH_BLOCKS = ("Attention", "AAttn")
"""Blocks whose forward ties head count and head size to their input width."""

CHANNELWISE = frozenset(
    [
        "silu",
        "silu_",
        "relu",
        "relu_",
        "sigmoid",
        "leaky_relu",
        "hardswish",
        "gelu",
        "mish",
        "dropout",
        "max_pool2d",
        "_max_pool2d",
        "avg_pool2d",
        "interpolate",
        "contiguous",
        "clone",
        "detach",
        "float",
        "to",
        "type_as",
    ]
)
"""Functions that keep channels where they are."""

METADATA_ONLY = frozenset(
    [
        "new_tensor",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "type_as",
    ]
)
"""Functions that read a tensor's shape and type but none of its values."""


@dataclass(kw_only=True)
class ConvSite:
    """A convolution with the labels it reads and writes."""

    name: str
    inputs: Labels | None
    """Shape (Cin,); None where the input can't be followed."""
    outputs: Labels
    """Shape (Cout,)."""
    kernel_area: int
    output_pixels: int
    """Height x width of its output for the traced input size."""
    depthwise: bool
    groups: int

    def macs(self, inputs: int, outputs: int) -> int:
        """Return the multiply-accumulates for one image with so many input and output channels."""
        per_output = 1 if self.depthwise else inputs // self.groups
        return outputs * per_output * self.kernel_area * self.output_pixels


@dataclass(kw_only=True)
class Space:
    """A set of interchangeable channels: the same count is kept wherever they appear."""

    channels: Labels
    """Labels of its channels, shape (n,)."""
    frozen: bool


@dataclass(kw_only=True)
class ChannelGraph:
    """All convolutions, normalisations and channel spaces of a network."""

    convs: dict[str, ConvSite]
    norms: dict[str, Labels]
    spaces: list[Space]
    tied: list[list[int]]
    """Sets of spaces that must keep equal counts; every space is in exactly one."""
    splits: dict[str, str] = field(default_factory=dict)
    """Block name to the convolution whose output it splits in halves."""

    def members(self, space: Space) -> list[str]:
        """Return the convolutions that write the space's channels."""
        wanted = set(space.channels.tolist())
        return [name for name, site in self.convs.items() if wanted & set(site.outputs.tolist())]


class _Merger:
    """Union-find over integers."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def new(self, count: int) -> Labels:
        """Return so many new labels."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, label: int) -> int:
        """Return the representative of a label."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def merge(self, first: Labels, second: Labels) -> None:
        """Make two label arrays equal, element by element."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self._parent[high] = low

    def roots(self, labels: Labels) -> Labels:
        """Return the representatives of an array of labels."""
        return np.array([self.root(label) for label in labels.tolist()], dtype=np.int64)


@dataclass
class _Trace:
    """What one labelled forward pass records."""

    names: dict[int, str]
    merger: _Merger = field(default_factory=_Merger)
    convs: dict[str, ConvSite] = field(default_factory=dict)
    norms: dict[str, Labels] = field(default_factory=dict)
    frozen: list[Labels] = field(default_factory=list)
    parts: list[list[Labels]] = field(default_factory=list)


_ACTIVE: list[_Trace] = []


class _Labelled(torch.Tensor):
    """A tensor whose channels (dimension 1) carry labels."""

    labels: Labels

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` on plain tensors, then move the labels as it moves channels."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            return _follow(_ACTIVE[-1], func.__name__, args, kwargs or {}, result)


def _label(tensor: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Return the tensor with labels on its channels."""
    labelled = tensor.as_subclass(_Labelled)
    labelled.labels = labels
    return labelled


def _labels_of(value: Any) -> Labels | None:
    """Return a value's labels, None where it has none."""
    return value.labels if isinstance(value, _Labelled) and hasattr(value, "labels") else None


def _follow(trace: _Trace, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Return ``result`` with labels; freeze the inputs' labels where the function isn't understood."""
    if not any(isinstance(item, torch.Tensor) for item in _flat(result)):
        return result
    first = args[0] if args else None
    labels = _labels_of(first)
    if name == "conv2d":
        return _follow_conv(trace, args, kwargs, result)
    if name == "batch_norm" and labels is not None:
        trace.norms[_norm_name(trace, args, kwargs)] = labels
        return _label(result, labels)
    if name in CHANNELWISE and labels is not None and result.shape[1] == len(labels):
        return _label(result, labels)
    if name in METADATA_ONLY:
        return result
    if name in ("cat", "concat") and _dimension(args, kwargs, 1, 0) == 1:
        return _follow_cat(trace, first or (), result)
    if name in ("chunk", "split") and labels is not None and _dimension(args, kwargs, 2, 0) == 1:
        return _follow_split(trace, labels, result)
    if name in ("add", "add_", "__add__", "__iadd__", "__radd__"):
        return _follow_add(trace, args, result)
    _freeze(trace, [*args, *kwargs.values()])
    return _unlabelled(result)


def _unlabelled(value: Any) -> Any:
    """Return tensors that go on being watched, though their channels are no longer known."""
    if isinstance(value, (list, tuple)):
        return type(value)(_unlabelled(item) for item in value) if type(value) in (list, tuple) else value
    return value.as_subclass(_Labelled) if isinstance(value, torch.Tensor) else value


def _flat(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _dimension(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, default: int) -> int:
    """Return the ``dim`` argument of a call."""
    return int(kwargs.get("dim", args[position] if len(args) > position else default))


def _freeze(trace: _Trace, values: Sequence[Any]) -> None:
    """Forbid the removal of every channel in ``values``."""
    trace.frozen += [labels for value in _flat(list(values)) if (labels := _labels_of(value)) is not None]


def _norm_name(trace: _Trace, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the module name of a batch normalisation call, found by its weight."""
    weight = next(a for a in [*args[1:], *kwargs.values()] if isinstance(a, torch.Tensor) and id(a) in trace.names)
    return trace.names[id(weight)]


def _follow_conv(trace: _Trace, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor) -> torch.Tensor:
    """Record a convolution; a depthwise one hands its input labels on, any other writes new ones."""
    weight = args[1]
    groups = int(kwargs.get("groups", args[6] if len(args) > 6 else 1))
    inputs = _labels_of(args[0])
    depthwise = groups > 1 and groups == weight.shape[0] and weight.shape[1] == 1
    outputs = inputs if depthwise and inputs is not None else trace.merger.new(weight.shape[0])
    if groups > 1 and not (depthwise and inputs is not None):
        trace.frozen += [outputs, *([] if inputs is None else [inputs])]
    name = trace.names[id(weight)]
    trace.convs[name] = ConvSite(
        name=name,
        inputs=inputs,
        outputs=outputs,
        kernel_area=weight.shape[2] * weight.shape[3],
        output_pixels=result.shape[2] * result.shape[3],
        depthwise=depthwise,
        groups=groups,
    )
    return _label(result, outputs)


def _follow_cat(trace: _Trace, parts: Sequence[Any], result: torch.Tensor) -> torch.Tensor:
    """Concatenate labels; a part without labels gets new, frozen ones."""
    labels = []
    for part in parts:
        known = _labels_of(part)
        if known is None:
            known = trace.merger.new(part.shape[1])
            trace.frozen.append(known)
        labels.append(known)
    return _label(result, np.concatenate(labels))


def _follow_split(trace: _Trace, labels: Labels, result: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Hand every part its share of the labels and remember that the parts are equally wide."""
    ends = np.cumsum([part.shape[1] for part in result])[:-1]
    parts = np.split(labels, ends)
    if len({len(part) for part in parts}) > 1:
        trace.frozen.append(labels)
    trace.parts.append(parts)
    return tuple(_label(part, own) for part, own in zip(result, parts, strict=True))


def _follow_add(trace: _Trace, args: tuple[Any, ...], result: torch.Tensor) -> torch.Tensor:
    """Merge the labels of two summands; a summand without labels freezes the other."""
    known = [labels for labels in map(_labels_of, args[:2]) if labels is not None]
    tensors = [a for a in args[:2] if isinstance(a, torch.Tensor) and a.ndim > 0]
    if len(known) == 2 and len(known[0]) == len(known[1]):
        trace.merger.merge(*known)
        return _label(result, known[0])
    if len(tensors) > 1 or not known:
        trace.frozen += known
        return _unlabelled(result)
    return _label(result, known[0])


@contextmanager
def _fixed_width_blocks(model: nn.Module, trace: _Trace) -> Iterator[None]:
    """Freeze what goes in and out of blocks that compute shapes from their input width."""

    def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        _freeze(trace, [*args, output])

    handles = [
        module.register_forward_hook(hook) for module in model.modules() if type(module).__name__ in FIXED_WIDTH_BLOCKS
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parameter_names(model: nn.Module) -> dict[int, str]:
    """Map the identity of every convolution's and normalisation's weight to its module's name."""
    return {
        id(module.weight): name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) and module.weight is not None
    }


def trace_channels(model: nn.Module, imgsz: int) -> ChannelGraph:
    """Return the channel graph of a detection model.

    Args:
        model: an unfused Ultralytics ``DetectionModel`` in float32; it isn't changed.
        imgsz: input side in pixels, for the MACs.

    Raises:
        SlimError: a convolution was used twice, so that one weight would have to fit two inputs.
    """
    trace = _Trace(names=_parameter_names(model))
    image = _label(torch.zeros(1, 3, imgsz, imgsz), trace.merger.new(3))
    trace.frozen.append(_labels_of(image))  # type: ignore[arg-type]
    training = model.training
    model.eval()
    _ACTIVE.append(trace)
    try:
        with torch.no_grad(), _fixed_width_blocks(model, trace):
            model(image)
    finally:
        _ACTIVE.pop()
        model.train(training)
    missing = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and n not in trace.convs]
    return _graph(trace, [name for name in missing if not name.endswith("dfl.conv")])


def _graph(trace: _Trace, unreached: list[str]) -> ChannelGraph:
    """Turn recorded labels into spaces with equal-count ties."""
    if unreached:
        raise SlimError(
            "Some convolutions are not reached by a forward pass, so what they must match is unknown.",
            culprits=unreached,
            remedy="yolo_slim prunes Ultralytics' yolov8, yolo11 and yolo26 detection models.",
        )
    merger = trace.merger
    for site in trace.convs.values():
        site.outputs = merger.roots(site.outputs)
        site.inputs = None if site.inputs is None else merger.roots(site.inputs)
    norms = {name: merger.roots(labels) for name, labels in trace.norms.items()}
    frozen = set(np.concatenate([merger.roots(labels) for labels in trace.frozen]).tolist())
    parts = [[merger.roots(part) for part in split] for split in trace.parts]
    spaces, home = _spaces(trace.convs, parts, frozen)
    return ChannelGraph(convs=trace.convs, norms=norms, spaces=spaces, tied=_ties(parts, home, spaces))


def _spaces(
    convs: dict[str, ConvSite], parts: list[list[Labels]], frozen: set[int]
) -> tuple[list[Space], dict[int, int]]:
    """Return the spaces and each label's space: channels written together, except where a split separates them."""
    split_labels = {label for split in parts for part in split for label in part.tolist()}
    atoms = [part for split in parts for part in split]
    atoms += [site.outputs for site in convs.values() if not split_labels.issuperset(site.outputs.tolist())]
    joined = _Merger()
    index = {label: i for i, label in enumerate(sorted({x for atom in atoms for x in atom.tolist()}))}
    joined.new(len(index))
    for atom in atoms:
        rows = np.array([index[label] for label in atom.tolist()])
        joined.merge(rows[:-1], rows[1:])
    groups: dict[int, list[int]] = {}
    for label, row in index.items():
        groups.setdefault(joined.root(row), []).append(label)
    spaces = [
        Space(channels=np.array(labels, dtype=np.int64), frozen=not frozen.isdisjoint(labels))
        for labels in groups.values()
    ]
    return spaces, {label: i for i, space in enumerate(spaces) for label in space.channels.tolist()}


def _ties(parts: list[list[Labels]], home: dict[int, int], spaces: list[Space]) -> list[list[int]]:
    """Return the sets of spaces that must keep equal counts; a frozen member freezes its set."""
    merger = _Merger()
    merger.new(len(spaces))
    for split in parts:
        own = np.array([home[int(part[0])] for part in split])
        merger.merge(own[:-1], own[1:])
    sets: dict[int, list[int]] = {}
    for i in range(len(spaces)):
        sets.setdefault(merger.root(i), []).append(i)
    for members in sets.values():
        unequal = len({len(spaces[i].channels) for i in members}) > 1
        if unequal or any(spaces[i].frozen for i in members):
            for i in members:
                spaces[i].frozen = True
    return list(sets.values())
