"""What an exported detection graph is made of: convolutions that may be int8, and the decoding that must stay float."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.errors import SlimError

TRAINED_KEY = "trained_int8"
"""Metadata of a float graph whose weights were trained quantized: the name of the graph with their ranges."""
QUANTIZED_OPS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Names of a graph's nodes by what may happen to them."""

    body: tuple[str, ...]
    """Convolutions that may be int8, in the graph's order."""
    last: tuple[str, ...]
    """The head's last convolutions, which write box distances and class logits."""
    tail: frozenset[str]
    """Everything after those: DFL, score sigmoid, anchors, box decoding, top-k."""


def load(onnx: Path) -> Any:
    """Return the ``ModelProto`` of a graph that our export made.

    Raises:
        SlimError: not an exported detection graph.
    """
    import onnx as onnx_package

    layout_of(onnx)
    return onnx_package.load(str(onnx))


def layout_of(onnx: Path) -> dict[str, Any]:
    """Return what an exported graph says of itself: imgsz (h, w), stride, names, layout.

    Raises:
        SlimError: not an ONNX file, or one without Ultralytics' detection metadata.
    """
    import ast

    import onnx as onnx_package

    if not onnx.is_file():
        raise SlimError(f"ONNX file not found: {onnx}", remedy="Make it with `yolo-slim export`.")
    try:
        graph = onnx_package.load(str(onnx))
        found = {item.key: item.value for item in graph.metadata_props}
        height, width = ast.literal_eval(found["imgsz"])
        names = {int(key): str(value) for key, value in ast.literal_eval(found["names"]).items()}
        layout = "end2end" if found.get("end2end") == "True" else "one2many"
        stride, task = int(found["stride"]), found["task"]
    except Exception as error:  # protobuf's decoder has its own exception classes
        raise SlimError(
            f"{onnx} isn't an ONNX file with Ultralytics' metadata: {str(error)[:200]}",
            remedy="Make it with `yolo-slim export`.",
        ) from None
    if task != "detect":
        raise SlimError(
            f"{onnx} is a {task} model.",
            remedy="Building for a device and validating there handle detection models; the ONNX file itself is whole.",
        )
    shape = [d.dim_value for d in graph.graph.output[0].type.tensor_type.shape.dim]
    wanted = 6 if layout == "end2end" else 4 + len(names)
    if len(shape) != 3 or shape[2 if layout == "end2end" else 1] != wanted:
        raise SlimError(f"{onnx}: its output {shape} doesn't fit {len(names)} classes in layout {layout}.")
    return {"imgsz": (height, width), "names": names, "layout": layout, "stride": stride}


def save(model: Any, path: Path) -> None:
    """Check a graph, its types and shapes included, and write it atomically."""
    import onnx as onnx_package

    from yolo_slim.files import write_atomic

    onnx_package.checker.check_model(model, full_check=True)
    write_atomic(path, lambda temporary: onnx_package.save(model, str(temporary)))


def parts(model: Any) -> Parts:
    """Split a graph at the head's last convolutions, found by walking back from the output.

    DFL is a convolution too, with the fixed weights 0, 1, 2, ...: the walk goes on through it.

    Raises:
        SlimError: no convolution, or a node without a name.
    """
    graph = model.graph
    if any(not node.name for node in graph.node):
        raise SlimError("The graph has nodes without names.", remedy="Make it with `yolo-slim export`.")
    producers = {name: node for node in graph.node for name in node.output}
    weights = {item.name: item for item in graph.initializer}
    tail: set[str] = set()
    last: set[str] = set()
    waiting = [producers[item.name] for item in graph.output if item.name in producers]
    while waiting:
        node = waiting.pop()
        if node.name in tail or node.name in last:
            continue
        if node.op_type == "Conv" and not _is_dfl(node, weights):
            last.add(node.name)
            continue
        tail.add(node.name)
        waiting += [producers[name] for name in node.input if name in producers]
    convs = [node.name for node in graph.node if node.op_type == "Conv" and node.name not in tail]
    if len(convs) <= len(last):
        raise SlimError("The graph has no convolutions to quantize.", remedy="Make it with `yolo-slim export`.")
    return Parts(
        body=tuple(name for name in convs if name not in last),
        last=tuple(name for name in convs if name in last),
        tail=frozenset(tail),
    )


def is_quantized(model: Any) -> bool:
    """Tell whether a graph already carries Q/DQ nodes."""
    return any(node.op_type in QUANTIZED_OPS for node in model.graph.node)


def layer_name(node: str) -> str:
    """Return the module's name in the checkpoint for a node's name: ``/model.4/cv1/conv/Conv`` is ``model.4.cv1``."""
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
    """Return the nodes with these names, in the graph's order."""
    wanted = set(names)
    return [node for node in model.graph.node if node.name in wanted]


def _is_dfl(node: Any, weights: dict[str, Any]) -> bool:
    """Tell whether a convolution has the fixed weights 0, 1, 2, ... of the distribution focal loss."""
    import numpy as np
    from onnx import numpy_helper

    if len(node.input) != 2 or node.input[1] not in weights:
        return False
    weight = numpy_helper.to_array(weights[node.input[1]])
    return weight.shape[0] == 1 and np.array_equal(weight.ravel(), np.arange(weight.size))
