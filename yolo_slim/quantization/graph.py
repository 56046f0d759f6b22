"""An exported detection graph: the convolutions that may be int8, and the decoding that stays float."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError
from yolo_slim.models.exported import GraphLayout, layout_of

TRAINED_KEY = "trained_int8"
"""Metadata of a float graph whose weights were trained quantized: the name of the graph with their ranges."""
KEEPS_SIGN: dict[str, int | None] = {"Add": None, "Concat": None, "MaxPool": 1, "Resize": 1, "Split": 1}
"""Operators whose outputs aren't negative where so many first inputs aren't (None: all); Ultralytics resizes to the
nearest pixel."""
QUANTIZED_OPS = QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Names of a graph's nodes: what may be int8 and what always stays float."""

    body: tuple[str, ...]
    """Convolutions that may be int8, in the graph's order."""
    last: tuple[str, ...]
    """The head's last convolutions, which write box distances and class logits. They stay float."""
    tail: frozenset[str]
    """Everything after those: DFL, score sigmoid, anchors, box decoding, top-k. It stays float32."""


def load(onnx: Path) -> Any:
    """Read the ``ModelProto`` of an exported graph.

    Raises:
        SlimError: not an exported detection graph.
    """
    import onnx as onnx_package

    # Refuses other files.
    layout_of(onnx)
    return onnx_package.load(str(onnx))


def require_input_size(layout: GraphLayout, imgsz: int) -> None:
    """Refuse a graph of another input size than the run's.

    Raises:
        SlimError: the sizes differ.
    """
    if layout.imgsz != (imgsz, imgsz):
        height, width = layout.imgsz
        raise SlimError(
            f"The graph takes {height}x{width} px, the run {imgsz}x{imgsz}: activation ranges differ between sizes.",
            remedy=f"Export it at imgsz {imgsz}, or give the graph's side (--imgsz).",
        )


def save(model: Any, path: Path) -> None:
    """Check a graph, its types and shapes included, and write it atomically."""
    import onnx as onnx_package

    from yolo_slim.files import write_atomic

    # full_check infers types too: a cast that is missing is found here and not by TensorRT on the device.
    onnx_package.checker.check_model(model, full_check=True)
    write_atomic(path, lambda temporary: onnx_package.save(model, str(temporary)))


def parts(model: Any) -> Parts:
    """Split a graph at the head's last convolutions, found by walking back from the output.

    Raises:
        SlimError: no convolution, or a node without a name.
    """
    # Layers and tail are sets of names, so every node needs one.
    if any(not node.name for node in model.graph.node):
        raise SlimError("The graph has nodes without names.", remedy="Make it with `yolo-slim export`.")
    last, tail = _head_end(model)
    convs = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name not in tail]
    if len(convs) <= len(last):
        raise SlimError("The graph has no convolutions to quantize.", remedy="Make it with `yolo-slim export`.")
    return Parts(
        body=tuple(name for name in convs if name not in last),
        last=tuple(name for name in convs if name in last),
        tail=frozenset(tail),
    )


def _head_end(model: Any) -> tuple[set[str], set[str]]:
    """Names of the last convolutions before the output, and of all nodes after them."""
    graph, weights = model.graph, initializers(model)
    producers = {name: node for node in graph.node for name in node.output}
    last: set[str] = set()
    tail: set[str] = set()
    waiting = [producers[item.name] for item in graph.output if item.name in producers]
    while waiting:
        node = waiting.pop()
        if node.name in tail or node.name in last:
            continue
        # DFL is a convolution too, but its fixed weights belong to the decoding.
        if node.op_type == "Conv" and not _is_dfl(node, weights):
            last.add(node.name)
            continue
        tail.add(node.name)
        waiting += [producers[name] for name in node.input if name in producers]
    return last, tail


def is_quantized(model: Any) -> bool:
    """Whether a graph has Q/DQ nodes."""
    return any(node.op_type in QUANTIZED_OPS for node in model.graph.node)


def layer_name(node: str) -> str:
    """A layer's name in the checkpoint from its node's name: ``/model.4/cv1/conv/Conv`` is ``model.4.cv1``."""
    words = [word for word in node.strip("/").split("/") if word not in ("conv", "Conv")]
    kept: list[str] = []
    for word in words:
        # Nested containers repeat their parent: /model.22/cv2.0/cv2.0.1 is model.22.cv2.0.1.
        if kept and word.startswith(f"{kept[-1]}."):
            kept[-1] = word
        else:
            kept.append(word)
    return ".".join(kept)


def nodes_named(model: Any, names: Iterable[str]) -> list[Any]:
    """The nodes with these names, in the graph's order."""
    wanted = set(names)
    return [node for node in model.graph.node if node.name in wanted]


def relus_of(model: Any, layers: Iterable[str]) -> dict[str, Any]:
    """Convolution to the ReLU node that alone reads what it writes, of the named convolutions that have one."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {item.name for item in model.graph.output}
    found = {}
    for node in nodes_named(model, layers):
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Relu" and node.output[0] not in outputs:
            found[node.name] = after[0]
    return found


def never_negative(model: Any) -> set[str]:
    """Tensors without negative values whatever the image: ReLU's, and what is only moved, joined or added of them."""
    found: set[str] = set()
    # In the graph's order every producer comes before its readers.
    for node in model.graph.node:
        keeps = node.op_type in KEEPS_SIGN and found.issuperset(node.input[: KEEPS_SIGN[node.op_type]])
        if keeps or node.op_type == "Relu":
            found.update(node.output)
    return found


def initializers(model: Any) -> dict[str, Any]:
    """A graph's stored constants (``TensorProto``) by name."""
    return {item.name: item for item in model.graph.initializer}


def array_of(initializer: Any) -> NDArray[Any]:
    """A stored constant as an array."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(initializer))


def replace_items(field: Any, items: Iterable[Any]) -> None:
    """Set a repeated protobuf field to items that may come from that very field."""
    # Clearing the field destroys its items, so they are copied first.
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _is_dfl(node: Any, weights: dict[str, Any]) -> bool:
    """Whether a convolution has the fixed weights 0, 1, 2, ... of the distribution focal loss."""
    if len(node.input) != 2 or node.input[1] not in weights:
        return False
    weight = array_of(weights[node.input[1]])
    return weight.shape[0] == 1 and np.array_equal(weight.ravel(), np.arange(weight.size))
