"""The head's box distribution (DFL) rewritten so that ONNX Runtime computes it faster, with the same numbers.

ONNX Runtime's own optimiser doesn't do this. Only the workstation calls it: it needs the onnx package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np


def speed_up_dfl(model: Any) -> int:
    """Move the box bins to the last axis, in place; return how many heads were rewritten.

    Ultralytics' DFL moves the bins (1, 4, bins, anchors) to axis 1, takes the softmax over that axis and a 1x1
    convolution. Over the last axis ONNX Runtime's softmax reads memory in order, and a matrix product replaces the
    convolution. A graph without exactly that pattern stays unchanged.
    """
    found = list(_dfl_nodes(model.graph))
    for transpose, softmax, conv in found:
        _rewrite(model.graph, transpose, softmax, conv)
    if found:  # the recorded shapes of intermediate tensors are those of the old layout
        del model.graph.value_info[:]
    return len(found)


def _dfl_nodes(graph: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Transpose, softmax and convolution of every DFL whose intermediate results nothing else reads."""
    producers: dict[str, Any] = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    weights = {item.name: item for item in graph.initializer}
    for conv in graph.node:
        if conv.op_type != "Conv" or len(conv.input) != 2 or not _is_ramp(weights.get(conv.input[1])):
            continue
        softmax = producers.get(conv.input[0])
        if softmax is None or softmax.op_type != "Softmax":
            continue
        transpose = producers.get(softmax.input[0])
        if transpose is None or transpose.op_type != "Transpose":
            continue
        is_private = readers[softmax.output[0]] == readers[transpose.output[0]] == 1
        if is_private and _attribute(transpose, "perm") == [0, 2, 1, 3] and _attribute(softmax, "axis") == 1:
            yield transpose, softmax, conv


def _is_ramp(item: Any) -> bool:
    """Whether a constant is the weight 0, 1, 2, ... (1, bins, 1, 1) that takes a distribution's mean."""
    from onnx import numpy_helper

    if item is None:
        return False
    weight = numpy_helper.to_array(item)
    return weight.shape == (1, weight.size, 1, 1) and np.array_equal(weight.ravel(), np.arange(weight.size))


def _attribute(node: Any, name: str) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), None)


def _rewrite(graph: Any, transpose: Any, softmax: Any, conv: Any) -> None:
    """Give one DFL the layout (1, 4, anchors, bins)."""
    from onnx import helper, numpy_helper

    for node, name, value in ((transpose, "perm", [0, 1, 3, 2]), (softmax, "axis", -1)):
        del node.attribute[:]
        node.attribute.append(helper.make_attribute(name, value))
    weight = next(item for item in graph.initializer if item.name == conv.input[1])
    column = numpy_helper.to_array(weight).reshape(-1, 1)
    # A new name, because another head may still read the weight in its old shape.
    mean = f"{conv.input[1]}.column"
    if all(item.name != mean for item in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(column, mean))
    product = helper.make_node("MatMul", [softmax.output[0], mean], list(conv.output), name=conv.name)
    index = next(i for i, node in enumerate(graph.node) if node.name == conv.name)
    graph.node.remove(conv)
    graph.node.insert(index, product)
    # Heads may share one weight: it goes with its last reader.
    if not any(weight.name in node.input for node in graph.node):
        graph.initializer.remove(weight)
