"""The file of single convolutions that a device times (:mod:`yolo_slim.runtime.layers`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolo_slim.backends.layers import Layer, layer_graph_of
from yolo_slim.build_key import BuildName
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.runtime.layers import SCHEMA


def why_no_table(build: BuildName) -> str:
    """Why a build has no latency table; empty: it has one."""
    if layer_graph_of(build.runtime) is None:
        return f"single layers can't be timed in {build.runtime}"
    if build.precision == "int8":
        return "what int8 itself loses can't be weighed against a cut before the training"
    return ""


def require_timed_layers(build: BuildName) -> None:
    """Refuse a runtime that can't time single layers."""
    if layer_graph_of(build.runtime) is None:
        raise SlimError(
            f"{build.runtime} has no latency table: single layers can't be timed in it.",
            remedy="Use a target that has onnxruntime or ncnn, or prune to MACs with --prune.",
        )


def name_of(layer: Layer) -> str:
    """The name of a layer's timing: its widths."""
    return f"{layer.inputs}-{layer.outputs}"


def write(file: Path, layers: Sequence[Layer], build: BuildName, threads: int) -> None:
    """Write the graphs of layers of one kind.

    Raises:
        SlimError: a runtime that can't time single layers.
    """
    require_timed_layers(build)
    graph = layer_graph_of(build.runtime)
    assert graph is not None
    graphs = [{"name": name_of(layer), "input": list(layer.input_shape), "graph": graph(layer)} for layer in layers]
    write_json(file, {"schema": SCHEMA, "runtime": build.runtime, "threads": threads, "graphs": graphs})
