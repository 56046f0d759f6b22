"""The fp16 graph: every tensor of the body is float16; input, output and the box decoding are float32.

Strongly typed: every cast is a node of the graph, so that TensorRT has no type left to choose. float16 can't represent
every integer above 2048, and decoding computes pixel coordinates: therefore it stays float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.quantization import graph as graphs

LARGEST = float(np.finfo(np.float16).max)
FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Operators and their inputs that ONNX requires in float32 whatever the type of the data: region and scales."""


def convert(model: Any) -> Any:
    """Copy a float graph in half precision, with float32 input and output.

    Raises:
        SlimError: a weight too large for float16, or a graph that is quantized already.
    """
    import onnx

    if graphs.is_quantized(model):
        raise SlimError("The graph is quantized already.", remedy="Convert the float export to fp16.")
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    tail = graphs.parts(model).tail
    body = [node for node in copied.graph.node if node.name not in tail]
    half = {name for node in body for name in node.output if _is_float(model, name)}
    casts = _Casts(copied.graph, half)
    for node in body:
        for index, name in enumerate(node.input):
            if index not in FLOAT32_INPUTS.get(node.op_type, ()):
                node.input[index] = casts.half(name)
    for node in copied.graph.node:
        if node.name in tail:
            node.input[:] = [casts.single(name) for name in node.input]
    casts.finish()
    return _typed(copied)


class _Casts:
    """Casts where float16 and float32 meet, each made once."""

    def __init__(self, graph: Any, half: set[str]) -> None:
        self._graph = graph
        self._half = half
        self._weights: dict[str, Any] = {item.name: item for item in graph.initializer}
        self._inputs = {item.name for item in graph.input}
        self._made: dict[str, Any] = {}

    def half(self, name: str) -> str:
        """The float16 name of an input of the body."""
        if name in self._weights:
            return self._half_weight(name)
        return self._cast(name, "float16") if name in self._inputs else name

    def single(self, name: str) -> str:
        """The float32 name of an input of the tail."""
        return self._cast(name, "float32") if name in self._half else name

    def finish(self) -> None:
        """Put every cast before its first reader, and drop weights that nobody reads any more."""
        # ONNX wants every producer before its readers.
        placed: list[Any] = []
        waiting = dict(self._made)
        for node in self._graph.node:
            placed += [waiting.pop(name) for name in dict.fromkeys(node.input) if name in waiting]
            placed.append(node)
        read = {name for node in placed for name in node.input}
        kept = [item for item in self._graph.initializer if item.name in read]
        graphs.replace_items(self._graph.node, placed)
        graphs.replace_items(self._graph.initializer, kept)

    def _half_weight(self, name: str) -> str:
        """The name of a float32 weight's float16 copy, or the name itself for anything else."""
        from onnx import numpy_helper

        value = graphs.array_of(self._weights[name])
        if value.dtype != np.float32:
            return name
        # A copy, because the tail may read the same weight in float32.
        halved = f"{name}_float16"
        if halved not in self._weights:
            largest = float(np.abs(value).max(initial=0))
            # Written so that not-a-number is refused too.
            if not largest <= LARGEST:
                raise SlimError(
                    f"The weight {name} contains {largest:.4g}; the largest float16 is {LARGEST:.0f}.",
                    remedy="Build fp32 or int8, or train with weight decay.",
                )
            self._graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), halved))
            self._weights[halved] = self._graph.initializer[-1]
        return halved

    def _cast(self, name: str, kind: str) -> str:
        from onnx import TensorProto, helper

        to = TensorProto.FLOAT16 if kind == "float16" else TensorProto.FLOAT
        cast = f"{name}_{kind}"
        if cast not in self._made:
            self._made[cast] = helper.make_node("Cast", [name], [cast], name=f"{name}/Cast_{kind}", to=to)
        return cast


def _is_float(model: Any, name: str) -> bool:
    """Whether an inner tensor is float32 in the float graph; shapes and indices aren't."""
    from onnx import TensorProto

    types = {item.name: item.type.tensor_type.elem_type for item in model.graph.value_info}
    return types.get(name, TensorProto.FLOAT) == TensorProto.FLOAT


def _typed(model: Any) -> Any:
    """A graph whose inner types and shapes are inferred anew."""
    import onnx

    # The copied types still say float32.
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
