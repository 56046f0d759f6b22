"""One forward pass on tensors whose channels carry labels.

A convolution gives its outputs new labels; an addition makes two labels the same; concatenation and ``chunk`` move
them; whatever isn't understood freezes the labels that reach it and remembers which block did so. Blocks whose forward
can't be followed call by call, but is known, have a rule in :mod:`yolo_slim.pruning.blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.errors import SlimError

Labels = np.ndarray
"""One integer label a channel: shape (C,), int64."""
Rule = Callable[["Trace", nn.Module, Any], Any]
"""From the trace, a block and its labelled input to its labelled output."""

CHANNELWISE = frozenset(
    [
        "silu",
        "silu_",
        "relu",
        "relu_",
        "relu6",
        "sigmoid",
        "sigmoid_",
        "leaky_relu",
        "leaky_relu_",
        "hardswish",
        "hardswish_",
        "hardsigmoid",
        "hardtanh",
        "gelu",
        "mish",
        "elu",
        "selu",
        "celu",
        "softplus",
        "tanh",
        "exp",
        "abs",
        "neg",
        "sqrt",
        "square",
        "clamp",
        "dropout",
        "dropout_",
        "max_pool2d",
        "_max_pool2d",
        "avg_pool2d",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "interpolate",
        "pad",
        "contiguous",
        "clone",
        "detach",
        "float",
        "to",
        "type_as",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
    ]
)
"""Functions that keep channels where they are, and treat each alike."""
TYPE_OF = frozenset(["to", "type_as"])
"""Functions that read the type of a second tensor and none of its values."""
NEW = frozenset(["new_tensor", "new_zeros", "new_ones", "new_full", "new_empty"])
"""Functions that make a tensor of any shape, of a type like the first one's."""
LEAVE_TORCH = frozenset(["numpy", "tolist", "item", "__array__", "__bool__", "__float__", "__int__", "__index__"])
"""Functions after which a value can't be followed."""
ELEMENTWISE = frozenset(
    f"{start}{name}{end}"
    for name in ("add", "sub", "mul", "div", "truediv")
    for start, end in (("", ""), ("", "_"), ("__", "__"), ("__i", "__"), ("__r", "__"))
) | {"maximum", "minimum"}
"""Functions of two tensors that combine equal positions."""
WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
OUTPUT = "what the network answers"
"""Reason for keeping what the last layer writes."""
INPUT = "the image"


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


class Merger:
    """Union-find over integers."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def new(self, count: int) -> Labels:
        """Return so many new labels."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count, dtype=np.int64)

    def __len__(self) -> int:
        """Return how many labels were given out."""
        return len(self._parent)

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
class Trace:
    """What one labelled forward pass records."""

    names: dict[int, str]
    """Identity of a weight to the name of its module."""
    head: str
    """Name of the last layer."""
    splitters: tuple[type[nn.Module], ...] = ()
    """Blocks whose ``split`` may be followed: its sizes come from attributes that the cut keeps right."""
    merger: Merger = field(default_factory=Merger)
    convs: dict[str, ConvSite] = field(default_factory=dict)
    norms: dict[str, Labels] = field(default_factory=dict)
    """Normalisations, and parameters with one value a channel, by name."""
    frozen: list[tuple[Labels, str]] = field(default_factory=list)
    """Labels that stay, with the reason."""
    parts: list[list[Labels]] = field(default_factory=list)
    """Arrays of labels that must keep equal counts, position by position."""
    stack: list[tuple[str, nn.Module]] = field(default_factory=list)
    """Modules that are running, the innermost last."""
    ran: set[str] = field(default_factory=set)
    """Modules that have run, by name."""
    lost: list[tuple[str, nn.Module]] = field(default_factory=list)
    """The innermost modules that were given labelled tensors and answered with others alone."""

    def freeze(self, values: Any, why: str) -> None:
        """Forbid the removal of every channel in ``values``: tensors or label arrays, nested as they come."""
        for value in _flat(values):
            labels = value if isinstance(value, np.ndarray) else labels_of(value)
            if labels is not None:
                self.frozen.append((labels, self._reason(why)))

    def _reason(self, why: str) -> str:
        """Return a reason with the block that gives it."""
        if not self.stack or self.stack[-1][0] == self.head:
            return INPUT if why == INPUT else OUTPUT
        name, module = self.stack[-1]
        return f"{name} ({type(module).__name__}): {why}"

    def name_of(self, module: nn.Module) -> str:
        """Return the name of the running module."""
        return next(name for name, running in reversed(self.stack) if running is module)


_ACTIVE: list[Trace] = []


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
            return _follow(_ACTIVE[-1], getattr(func, "__name__", str(func)), args, kwargs or {}, result)


def label(tensor: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Return the tensor with labels on its channels."""
    labelled = tensor.as_subclass(_Labelled)
    labelled.labels = labels
    return labelled


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without labels, for arithmetic that isn't to be followed."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor)


def labels_of(value: Any) -> Labels | None:
    """Return a value's labels, None where it has none."""
    return value.labels if isinstance(value, _Labelled) and hasattr(value, "labels") else None


def _follow(trace: Trace, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Return ``result`` with labels; freeze the inputs' labels where the function isn't understood."""
    if name in LEAVE_TORCH or (result is None and name != "__get__"):
        # What returns nothing has written: x[:, 0] = 0.
        _freeze_given(trace, name, args, kwargs)
        return result
    if not any(isinstance(item, torch.Tensor) for item in _flat(result)) or _type_only(name, args, result):
        return result
    followed = None
    if kwargs.get("out") is None:
        followed = _follow_layer(trace, name, args, kwargs, result)
        if followed is None:
            followed = _follow_move(trace, name, args, kwargs, result)
    if followed is None:
        _freeze_given(trace, name, args, kwargs)
        return _unlabelled(result)
    return followed


def _freeze_given(trace: Trace, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Freeze what a call was given, its tensors alone: an array among them is an index and no labels."""
    trace.freeze([value for value in _flat([args, kwargs]) if isinstance(value, torch.Tensor)], name)


def _type_only(name: str, args: tuple[Any, ...], result: Any) -> bool:
    """Tell whether a function took no more than the type of a labelled tensor: anchors, a grid of positions.

    A new tensor of as many dimensions may have the width of the labelled one, which the cut changes.
    """
    if name in TYPE_OF:
        return not isinstance(args[0], _Labelled)
    return name in NEW and result.ndim < args[0].ndim


def _follow_layer(trace: Trace, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Return the labelled result of a function with weights, None for any other."""
    labels = labels_of(args[0]) if args else None
    module = _module_of(trace, args, kwargs)
    if module is None:
        return None
    if name in ("conv2d", "conv_transpose2d"):
        return _follow_conv(trace, module, args, kwargs, result, transposed=name != "conv2d")
    if name == "linear" and labels is not None and args[0].ndim == 2:
        return _follow_linear(trace, module, labels, result)
    if name == "batch_norm" and labels is not None:
        if module in trace.norms:
            trace.merger.merge(trace.norms[module], labels)
        trace.norms[module] = labels
        return label(result, labels)
    return None


def _follow_move(trace: Trace, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Return the labelled result of a function that moves or combines channels, None where that isn't clear."""
    if name in ("cat", "concat") and _dimension(args, kwargs, 1, 0, result.ndim) == 1:
        return _follow_cat(trace, args[0] if args else kwargs["tensors"], result)
    if name in ELEMENTWISE:
        operands = [*args[:2], *(kwargs[key] for key in ("input", "other") if key in kwargs)]
        return _follow_elementwise(trace, operands, result)
    labels = labels_of(args[0]) if args else None
    if labels is None:
        return None
    if name in CHANNELWISE and result.shape[1:2] == (len(labels),) and (name in TYPE_OF or _only_first(args, kwargs)):
        return label(result, labels)
    if name in ("chunk", "split") and _dimension(args, kwargs, 2, 0, args[0].ndim) == 1:
        return _follow_split(trace, name, labels, result)
    if name == "flatten" and result.ndim == 2 and len(result) == len(args[0]):
        return label(result, np.repeat(labels, result.shape[1] // len(labels)))
    if name == "mean" and _spatial_only(args, kwargs):
        return label(result, labels)
    return None


def _unlabelled(value: Any) -> Any:
    """Return tensors that go on being watched, though their channels are no longer known."""
    if isinstance(value, (list, tuple)):
        rebuilt = type(value) in (list, tuple) or type(value).__module__ == "torch.return_types"
        return type(value)([_unlabelled(item) for item in value]) if rebuilt else value
    return value.as_subclass(_Labelled) if type(value) in (torch.Tensor, _Labelled) else value


def _flat(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested lists, tuples and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _only_first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether the first argument is the only one with many values; ``clamp`` may have a bound a channel."""
    return not any(isinstance(value, torch.Tensor) and value.numel() > 1 for value in _flat([args[1:], kwargs]))


def _dimension(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, default: int, ndim: int) -> int:
    """Return the ``dim`` argument of a call, counted from the front."""
    return int(kwargs.get("dim", args[position] if len(args) > position else default)) % max(ndim, 1)


def _spatial_only(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a reduction of a 4D tensor is over height and width alone."""
    over = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dims = over if isinstance(over, (list, tuple)) else [over]
    return args[0].ndim == 4 and all(isinstance(d, int) and d % 4 in (2, 3) for d in dims)


def _module_of(trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the name of the module whose weight a call uses, None where it is no module's."""
    for value in [*args[1:], *kwargs.values()]:
        if isinstance(value, torch.Tensor) and id(value) in trace.names:
            return trace.names[id(value)]
    return None


def _known(trace: Trace, value: Any, channels: int) -> Labels:
    """Return a value's labels, or new frozen ones where it has none."""
    labels = labels_of(value)
    if labels is None:
        labels = trace.merger.new(channels)
        trace.freeze(labels, "channels that can't be followed")
    return labels


def _follow_conv(
    trace: Trace, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor, *, transposed: bool
) -> torch.Tensor:
    """Record a convolution; a depthwise one hands its input labels on, any other writes new ones."""
    image, weight = args[:2]
    groups = int(kwargs.get("groups", args[6] if len(args) > 6 else 1))
    inputs = _known(trace, image, image.shape[1])
    depthwise = groups > 1 and groups == image.shape[1] == result.shape[1]
    outputs = inputs if depthwise else trace.merger.new(result.shape[1])
    if groups > 1 and not depthwise:
        trace.freeze([inputs, outputs], "grouped convolution")
    where = image if transposed else result
    site = ConvSite(
        name=name,
        inputs=inputs,
        outputs=outputs,
        kernel_area=weight.shape[2] * weight.shape[3],
        output_pixels=where.shape[2] * where.shape[3],
        depthwise=depthwise,
        groups=groups,
        transposed=transposed,
    )
    return label(result, _record(trace, site).outputs)


def _follow_linear(trace: Trace, name: str, inputs: Labels, result: torch.Tensor) -> torch.Tensor:
    """Record a linear layer on vectors (N, C)."""
    outputs = trace.merger.new(result.shape[1])
    site = ConvSite(
        name=name, inputs=inputs, outputs=outputs, kernel_area=1, output_pixels=1, depthwise=False, groups=1
    )
    return label(result, _record(trace, site).outputs)


def _record(trace: Trace, site: ConvSite) -> ConvSite:
    """Keep a site; a module that runs again must find equal channels both times, and writes equal ones."""
    before = trace.convs.get(site.name)
    if before is None:
        trace.convs[site.name] = site
        return site
    trace.merger.merge(before.inputs, site.inputs)
    trace.merger.merge(before.outputs, site.outputs)
    before.output_pixels += site.output_pixels
    return before


def _follow_cat(trace: Trace, parts: Sequence[Any], result: torch.Tensor) -> torch.Tensor:
    """Concatenate labels; a part without labels gets new, frozen ones."""
    return label(result, np.concatenate([_known(trace, part, part.shape[1]) for part in parts]))


def _follow_split(
    trace: Trace, name: str, labels: Labels, result: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...] | None:
    """Hand every part its share of the labels and remember that the parts are equally wide."""
    if name == "split" and type(trace.stack[-1][1]) not in trace.splitters:
        return None
    parts = np.split(labels, np.cumsum([part.shape[1] for part in result])[:-1])
    if len({len(part) for part in parts}) > 1:
        return None
    trace.parts.append(parts)
    return tuple(label(part, own) for part, own in zip(result, parts, strict=True))


def _follow_elementwise(trace: Trace, operands: Sequence[Any], result: torch.Tensor) -> torch.Tensor | None:
    """Merge the labels of two operands; a number or a single channel leaves the other's labels alone."""
    tensors = [a for a in operands if isinstance(a, torch.Tensor) and a.ndim > 0]
    wide = [a for a in tensors if a.ndim == result.ndim and a.shape[1:2] == result.shape[1:2]]
    single = [a for a in tensors if all(a is not w for w in wide)]
    if not wide or any(labels_of(a) is None for a in wide) or any(_channels(a, result.ndim) != 1 for a in single):
        return None
    trace.freeze(single, "one channel for all")
    first = labels_of(wide[0])
    assert first is not None
    for other in wide[1:]:
        trace.merger.merge(first, other.labels)  # type: ignore[attr-defined]
    return label(result, first)


def _channels(operand: torch.Tensor, ndim: int) -> int:
    """Return how many channels an operand brings to a result of ``ndim`` dimensions, counted from the last one."""
    axis = operand.ndim - ndim + 1
    return operand.shape[axis] if axis >= 0 else 1


def run(
    model: nn.Module, imgsz: int, rules: dict[type[nn.Module], Rule], splitters: tuple[type[nn.Module], ...]
) -> Trace:
    """Return what a forward pass on one image of ``imgsz`` x ``imgsz`` pixels records.

    Shapes are all it takes, so the pass runs on tensors without memory; a model that mixes in tensors of its own, which
    have memory, is run in earnest.
    """
    try:
        with _without_memory(model):
            return _run(model, torch.device("meta"), imgsz, rules, splitters)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return _run(model, torch.device("cpu"), imgsz, rules, splitters)


def _run(
    model: nn.Module,
    device: torch.device,
    imgsz: int,
    rules: dict[type[nn.Module], Rule],
    splitters: tuple[type[nn.Module], ...],
) -> Trace:
    """Return the trace of a pass on ``device``."""
    layers = list(model.model)  # type: ignore[arg-type]
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    trace = Trace(names=_weight_names(model), head=f"model.{len(layers) - 1}", splitters=splitters)
    image = label(torch.zeros(1, channels, imgsz, imgsz, device=device), trace.merger.new(channels))
    trace.freeze(image, INPUT)
    training = model.training
    model.eval()
    _ACTIVE.append(trace)
    try:
        with torch.no_grad(), _running(model, trace), _rules(model, trace, rules), training_branches(layers[-1]):
            trace.freeze(_answers(model(image)), OUTPUT)
    finally:
        _ACTIVE.pop()
        model.train(training)
    return trace


@contextmanager
def _without_memory(model: nn.Module) -> Iterator[None]:
    """Put tensors without memory in the place of all parameters and buffers."""
    saved = [(m, dict(m._parameters), dict(m._buffers)) for m in model.modules()]
    twins: dict[int, torch.Tensor] = {}

    def twin(tensor: torch.Tensor | None) -> Any:
        if tensor is None:
            return None
        if id(tensor) not in twins:
            empty = torch.empty_like(tensor, device="meta")
            is_parameter = isinstance(tensor, nn.Parameter)
            twins[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
        return twins[id(tensor)]

    try:
        for module, parameters, buffers in saved:
            module._parameters.update({name: twin(tensor) for name, tensor in parameters.items()})
            module._buffers.update({name: twin(tensor) for name, tensor in buffers.items()})
        yield
    finally:
        for module, parameters, buffers in saved:
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _answers(output: Any) -> list[Any]:
    """Return a network's outputs without the head's inputs, which Ultralytics hands on for their shapes."""
    if isinstance(output, dict):
        return [_answers(value) for key, value in output.items() if key != "feats"]
    return [_answers(item) for item in output] if isinstance(output, (list, tuple)) else [output]


@contextmanager
def training_branches(model: nn.Module) -> Iterator[None]:
    """Let a network in evaluation mode run the branches that only training reads; its layers stay as they are."""
    inner = [module for module in model.modules() if any(True for _ in module.children())]
    for module in inner:
        module.training = True
    try:
        yield
    finally:
        for module in inner:
            module.training = False


@contextmanager
def _running(model: nn.Module, trace: Trace) -> Iterator[None]:
    """Keep the stack of running modules."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                enter = module.register_forward_pre_hook(lambda m, _, name=name: trace.stack.append((name, m)))
                leave = module.register_forward_hook(partial(_leave, trace), with_kwargs=True, always_call=True)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
        yield


def _leave(trace: Trace, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    """Take the innermost module off the stack and remember whether it has lost the labels."""
    name, _ = trace.stack.pop()
    trace.ran.add(name)
    given = any(isinstance(item, _Labelled) for item in _flat([args, kwargs]))
    answers = [item for item in _flat(output) if isinstance(item, torch.Tensor)]
    if not given or not answers or any(isinstance(item, _Labelled) for item in answers):
        return
    if not any(inner.startswith(f"{name}.") for inner, _ in trace.lost):
        trace.lost.append((name, module))


@contextmanager
def _rules(model: nn.Module, trace: Trace, rules: dict[type[nn.Module], Rule]) -> Iterator[None]:
    """Let blocks of exactly the ruled classes run by their rule; a subclass may have another forward."""
    ruled = [m for m in model.modules() if type(m) in rules and "forward" not in vars(m)]
    for module in ruled:
        module.forward = partial(rules[type(module)], trace, module)
    try:
        yield
    finally:
        for module in ruled:
            del module.__dict__["forward"]


def _weight_names(model: nn.Module) -> dict[int, str]:
    """Map the identity of every weight that can be cut to its module's name.

    Raises:
        SlimError: two modules share one weight, so that cutting one would leave the other behind.
    """
    names: dict[int, str] = {}
    shared = []
    for name, module in model.named_modules():
        if isinstance(module, WEIGHTED) and isinstance(module.weight, nn.Parameter):
            if id(module.weight) in names:
                shared.append(f"{names[id(module.weight)]} and {name} ({type(module).__name__})")
            names[id(module.weight)] = name
    if shared:
        raise SlimError(
            "Some modules share one weight, so neither can be cut alone.",
            culprits=shared,
            remedy="Use the same module twice instead of two modules with one weight.",
        )
    return names
