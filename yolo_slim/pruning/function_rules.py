"""What torch functions do to the labels of channels.

A convolution or linear layer gives its outputs new labels; an addition makes two labels the same; concatenation and
``chunk`` move them; functions of single channels leave them. Any other function freezes the labels that reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from yolo_slim.pruning.labels import Call, LabelledTensor, Labels, flat, label, labels_of, unlabelled
from yolo_slim.pruning.trace import ConvSite, Trace

ACTIVATIONS = (
    "silu silu_ relu relu_ relu6 sigmoid sigmoid_ leaky_relu leaky_relu_ hardswish hardswish_ hardsigmoid hardtanh "
    "gelu mish elu selu celu softplus tanh exp abs neg sqrt square clamp dropout dropout_"
)
RESIZING = "max_pool2d _max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d interpolate pad"
COPIES = "contiguous clone detach float to type_as zeros_like ones_like full_like empty_like"
CHANNELWISE = frozenset(f"{ACTIVATIONS} {RESIZING} {COPIES}".split())
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


def follow(trace: Trace, call: Call) -> Any:
    """The result of a call, with labels where the function is understood; elsewhere its inputs are frozen."""
    # What returns nothing has written into its input: x[:, 0] = 0. Attributes (__get__) may be None: x.grad.
    if call.name in LEAVE_TORCH or (call.result is None and call.name != "__get__"):
        trace.freeze_inputs(call)
        return call.result
    if not any(isinstance(item, torch.Tensor) for item in flat(call.result)) or _reads_type_only(call):
        return call.result
    followed = None
    # With out=, the result is a tensor that other views may share, so nothing is known of it.
    if call.kwargs.get("out") is None:
        followed = _follow_layer(trace, call)
        if followed is None:
            followed = _follow_move(trace, call)
    if followed is None:
        trace.freeze_inputs(call)
        return unlabelled(call.result)
    return followed


def _reads_type_only(call: Call) -> bool:
    """Whether a function took no more than the type of a labelled tensor: anchors, a grid of positions.

    A new tensor of as many dimensions may have the width of the labelled one, which the cut changes.
    """
    if call.name in TYPE_OF:
        return not isinstance(call.args[0], LabelledTensor)
    return call.name in NEW and call.result.ndim < call.args[0].ndim


def _follow_layer(trace: Trace, call: Call) -> Any:
    """The labelled result of a function with weights, None for any other."""
    module = _module_of(trace, call)
    if module is None:
        return None
    if call.name in ("conv2d", "conv_transpose2d"):
        return _follow_conv(trace, module, call)
    labels = call.labels
    # A linear layer on anything but vectors (N, C) has its channels in the last dimension, where no labels are.
    if call.name == "linear" and labels is not None and call.args[0].ndim == 2:
        return _follow_linear(trace, module, labels, call.result)
    if call.name == "batch_norm" and labels is not None:
        # A normalisation that runs twice has one scale for both runs.
        if module in trace.norms:
            trace.labels.merge(trace.norms[module], labels)
        trace.norms[module] = labels
        return label(call.result, labels)
    return None


def _follow_move(trace: Trace, call: Call) -> Any:
    """The labelled result of a function that moves or combines channels, None where that isn't clear."""
    if call.name in ("cat", "concat") and call.dimension(1, 0, call.result.ndim) == 1:
        return _follow_concatenation(trace, call.args[0] if call.args else call.kwargs["tensors"], call.result)
    if call.name in ELEMENTWISE:
        operands = [*call.args[:2], *(call.kwargs[key] for key in ("input", "other") if key in call.kwargs)]
        return _follow_elementwise(trace, operands, call.result)
    labels = call.labels
    return None if labels is None else _follow_first(trace, call, labels)


def _follow_first(trace: Trace, call: Call, labels: Labels) -> Any:
    """The same for a function of one labelled tensor."""
    first, result = call.args[0], call.result
    if call.name in CHANNELWISE and result.shape[1:2] == (len(labels),):
        return label(result, labels) if call.name in TYPE_OF or _reads_only_first(call) else None
    if call.name in ("chunk", "split") and call.dimension(2, 0, first.ndim) == 1:
        return _follow_split(trace, call, labels)
    # Each channel becomes as many values as it has pixels, side by side.
    if call.name == "flatten" and result.ndim == 2 and len(result) == len(first):
        return label(result, np.repeat(labels, result.shape[1] // len(labels)))
    if call.name == "mean" and _is_over_pixels(call):
        return label(result, labels)
    return None


def _reads_only_first(call: Call) -> bool:
    """Whether the first argument is the only one with many values; ``clamp`` may have a bound for every channel."""
    others = flat([call.args[1:], call.kwargs])
    return not any(isinstance(value, torch.Tensor) and value.numel() > 1 for value in others)


def _is_over_pixels(call: Call) -> bool:
    """Whether a reduction of a 4D tensor is over height and width alone."""
    over = call.argument("dim", 1, None)
    dims = over if isinstance(over, (list, tuple)) else [over]
    return call.args[0].ndim == 4 and all(isinstance(d, int) and d % 4 in (2, 3) for d in dims)


def _module_of(trace: Trace, call: Call) -> str | None:
    """Name of the module whose weight a call uses, None where it is no module's."""
    # Functions see weights, not modules, so a weight's identity has to say which layer runs.
    for value in [*call.args[1:], *call.kwargs.values()]:
        if isinstance(value, torch.Tensor) and id(value) in trace.names:
            return trace.names[id(value)]
    return None


def _follow_conv(trace: Trace, module: str, call: Call) -> torch.Tensor:
    """Record a convolution; a depthwise one writes the labels that it reads, any other writes new ones."""
    image, weight = call.args[:2]
    transposed = call.name != "conv2d"
    # Position 6 in both functions: conv_transpose2d has output_padding before groups, and dilation after it.
    groups = int(call.argument("groups", 6, 1))
    inputs = trace.known(image, image.shape[1])
    depthwise = groups > 1 and groups == image.shape[1] == call.result.shape[1]
    outputs = inputs if depthwise else trace.labels.new(call.result.shape[1])
    if groups > 1 and not depthwise:
        # Removing one channel of a group would leave groups of unequal width, which torch has no layer for.
        trace.freeze([inputs, outputs], "the groups of its grouped convolution must stay equally wide")
    where = image if transposed else call.result
    site = ConvSite(
        name=module,
        inputs=inputs,
        outputs=outputs,
        kernel_area=weight.shape[2] * weight.shape[3],
        output_pixels=where.shape[2] * where.shape[3],
        depthwise=depthwise,
        groups=groups,
        transposed=transposed,
    )
    return label(call.result, trace.record(site).outputs)


def _follow_linear(trace: Trace, module: str, inputs: Labels, result: torch.Tensor) -> torch.Tensor:
    """Record a linear layer on vectors (N, C)."""
    outputs = trace.labels.new(result.shape[1])
    site = ConvSite(
        name=module, inputs=inputs, outputs=outputs, kernel_area=1, output_pixels=1, depthwise=False, groups=1
    )
    return label(result, trace.record(site).outputs)


def _follow_concatenation(trace: Trace, parts: Sequence[Any], result: torch.Tensor) -> torch.Tensor:
    """Concatenate labels; a part without labels gets new, frozen ones."""
    return label(result, np.concatenate([trace.known(part, part.shape[1]) for part in parts]))


def _follow_split(trace: Trace, call: Call, labels: Labels) -> tuple[torch.Tensor, ...] | None:
    """Give every part its share of the labels, and note that the parts are equally wide."""
    # ``split`` takes sizes, which are right after a cut only in blocks whose attributes are updated.
    if call.name == "split" and type(trace.running[-1][1]) not in trace.splitters:
        return None
    parts = np.split(labels, np.cumsum([part.shape[1] for part in call.result])[:-1])
    if len({len(part) for part in parts}) > 1:
        return None
    trace.parts.append(parts)
    return tuple(label(part, own) for part, own in zip(call.result, parts, strict=True))


def _follow_elementwise(trace: Trace, operands: Sequence[Any], result: torch.Tensor) -> torch.Tensor | None:
    """Merge the labels of two operands; a number or a single channel leaves the other's labels alone."""
    tensors = [a for a in operands if isinstance(a, torch.Tensor) and a.ndim > 0]
    wide = [a for a in tensors if a.ndim == result.ndim and a.shape[1:2] == result.shape[1:2]]
    # By identity: `in` would compare the tensors element by element.
    single = [a for a in tensors if all(a is not w for w in wide)]
    # A factor for every channel (ConvNeXt's layer scale) is a parameter that the cut wouldn't narrow.
    if any(_channels(a, result.ndim) != 1 for a in single):
        return None
    found = [labels_of(a) for a in wide]
    known = [labels for labels in found if labels is not None]
    if not wide or len(known) < len(wide):
        return None
    trace.freeze(single, "one channel is combined with all others, so it stays")
    for other in known[1:]:
        trace.labels.merge(known[0], other)
    return label(result, known[0])


def _channels(operand: torch.Tensor, ndim: int) -> int:
    """How many channels an operand brings to a result of ``ndim`` dimensions; torch aligns shapes from the last one."""
    axis = operand.ndim - ndim + 1
    return operand.shape[axis] if axis >= 0 else 1
