"""One convolution as an ONNX graph of a few hundred bytes: its weights are constants that ONNX Runtime fills in."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_slim.backends.layers import Layer

WEIGHT = 0.01
"""Value of every weight: with 0 the sums could become denormal numbers, which are slow."""


def layer_graph(layer: Layer) -> str:
    """The ONNX file of one convolution with its activation, fp32, as base64 text."""
    from onnx import TensorProto, helper

    kind = layer.kind
    shape = [layer.outputs, layer.inputs // layer.groups, *kind.kernel]
    initializers = [
        helper.make_tensor("weight_shape", TensorProto.INT64, [4], shape),
        helper.make_tensor("bias_shape", TensorProto.INT64, [1], [layer.outputs]),
    ]
    sizes: dict[str, Any] = {"kernel_shape": list(kind.kernel), "strides": list(kind.stride), "group": layer.groups}
    nodes = [
        _filled("weight_shape", "weight"), _filled("bias_shape", "bias"),
        helper.make_node("Conv", ["in", "weight", "bias"], ["sum"], pads=[*kind.padding] * 2, **sizes),
    ]  # fmt: skip
    done = _activated(kind.activation, nodes)
    graph = helper.make_graph(
        nodes, "layer",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, *layer.input_shape])],
        [helper.make_tensor_value_info(done, TensorProto.FLOAT, [1, layer.outputs, *kind.output_size])],
        initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return base64.b64encode(model.SerializeToString()).decode()


def _filled(shape: str, name: str) -> Any:
    """A node that makes a constant tensor when the graph is loaded."""
    from onnx import TensorProto, helper

    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [WEIGHT])
    return helper.make_node("ConstantOfShape", [shape], [name], value=value)


def _activated(activation: str, nodes: list[Any]) -> str:
    """Add an activation as Ultralytics exports it; the answer is its output's name."""
    from onnx import helper

    if activation == "silu":
        nodes += [
            helper.make_node("Sigmoid", ["sum"], ["sigmoid"]),
            helper.make_node("Mul", ["sum", "sigmoid"], ["active"]),
        ]
    elif activation in ("relu", "hardswish"):
        nodes.append(helper.make_node({"relu": "Relu", "hardswish": "HardSwish"}[activation], ["sum"], ["active"]))
    return "sum" if activation == "none" else "active"
