"""One convolution as the text of an NCNN .param file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolo_slim.backends.layers import Layer

FUSED = {"none": 0, "relu": 1, "hardswish": 6}
"""Activation to NCNN's ``activation_type`` of a convolution; SiLU has none and is a layer of its own."""


def layer_graph(layer: Layer) -> str:
    """The .param file of one convolution with its activation, input ``in0`` and output ``out0``.

    A layer before it brings the input into NCNN's own layout, as ``packed``.
    NCNN arranges the weights for its precision when it loads them.
    """
    kind = layer.kind
    weights = layer.outputs * (layer.inputs // layer.groups) * kind.kernel[0] * kind.kernel[1]
    # NCNN's keys of a convolution: https://github.com/Tencent/ncnn/wiki/operators#convolution
    keys = {
        0: layer.outputs, 1: kind.kernel[1], 11: kind.kernel[0], 3: kind.stride[1], 13: kind.stride[0],
        4: kind.padding[1], 14: kind.padding[0], 5: 1, 6: weights,
    }  # fmt: skip
    if layer.groups > 1:
        keys[7] = layer.groups
    fused = FUSED.get(kind.activation, 0)
    if fused:
        keys[9] = fused
    name = "ConvolutionDepthWise" if layer.groups > 1 else "Convolution"
    own_layer = kind.activation == "silu"
    text = " ".join(f"{key}={value}" for key, value in keys.items())
    if fused == FUSED["hardswish"]:
        text += " -23310=2,1.666667e-01,5.000000e-01"
    layers = [
        "Input in 0 1 in0",
        "ReLU pack 1 1 in0 packed",
        f"{name} conv 1 1 packed {'sum' if own_layer else 'out0'} {text}",
    ]
    if own_layer:
        layers.append("Swish silu 1 1 sum out0")
    return "\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers]) + "\n"
