"""The file of single convolutions that a device times (:mod:`yolo_slim.runtime.layers`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolo_slim.backends.layers import Layer, layer_graph_of
from yolo_slim.build_key import BuildName
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.runtime.layers import SCHEMA


def why_no_table(build: BuildName, named: str | None = None) -> str:
    """Why a build has no latency table; empty: it has one.

    Args:
        build: runtime and precision.
        named: the build that ``latency.runtime`` asks for, if any. Then nothing has to be weighed.
    """
    if build.precision == "int8" and str(build) != named:
        return "what int8 itself loses can't be weighed against a cut before the training; latency.runtime can name it"
    return ""


def times_layers(build: BuildName) -> bool:
    """Whether the build's runtime can time single layers; their graphs are float."""
    return build.precision != "int8" and layer_graph_of(build.runtime) is not None


def name_of(layer: Layer) -> str:
    """The name of a layer's timing: its widths."""
    return f"{layer.inputs}-{layer.outputs}"


def write(file: Path, layers: Sequence[Layer], build: BuildName, threads: int) -> None:
    """Write the graphs of layers of one kind.

    Raises:
        SlimError: a runtime that can't time single layers.
    """
    graph = layer_graph_of(build.runtime)
    if graph is None:
        raise SlimError(f"{build.runtime} can't time single layers.", remedy="Choose onnxruntime or ncnn.")
    graphs = [{"name": name_of(layer), "input": list(layer.input_shape), "graph": graph(layer)} for layer in layers]
    write_json(file, {"schema": SCHEMA, "runtime": build.runtime, "threads": threads, "graphs": graphs})
