"""An exported ONNX file: how its input is made and its output is read, as its metadata says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.errors import SlimError
from yolo_slim.models.class_names import name_problems


@dataclass(frozen=True, kw_only=True)
class GraphLayout:
    """What decides how a graph's input is made and its output is read; its metadata has it."""

    imgsz: tuple[int, int]
    """Input height and width, pixels."""
    names: dict[int, str]
    """Class id to name."""
    layout: str
    """``one2many`` (raw candidates, NMS follows) or ``end2end``."""
    stride: int
    """Largest stride."""

    def __str__(self) -> str:
        height, width = self.imgsz
        classes = f"classes {', '.join(self.names.values())}"
        return f"{height}x{width}, {classes}{', end2end' * (self.layout == 'end2end')}"


def layout_of(onnx: Path) -> GraphLayout:
    """Read the layout of an exported graph.

    Raises:
        SlimError: not an ONNX file, one without Ultralytics' detection metadata, or one whose input has no fixed size.
    """
    import onnx as onnx_package

    if not onnx.is_file():
        raise SlimError(f"ONNX file not found: {onnx}", remedy="Make it with `yolo-slim export`.")
    try:
        graph = onnx_package.load(str(onnx))
        task, layout = _described({item.key: item.value for item in graph.metadata_props})
    except Exception as error:  # protobuf's decoder has its own exception classes
        raise SlimError(
            f"{onnx} isn't an ONNX file with Ultralytics' metadata: {str(error)[:200]}",
            remedy="Make it with `yolo-slim export`.",
        ) from None
    if task != "detect":
        raise SlimError(
            f"{onnx} is a {task} model.",
            remedy="Only detection models can be built and validated for a device. The ONNX file itself is valid.",
        )
    _require_names(onnx, layout)
    _require_fixed_input(onnx, graph)
    _require_output(onnx, graph, layout)
    return layout


def require_same_layout(onnx: Path, graphs: Mapping[str, Path]) -> None:
    """Check that graphs were made from an exported one: their bundles take input, classes and layout from it.

    Args:
        onnx: the exported graph.
        graphs: by the names that people know them by.

    Raises:
        SlimError: graphs of another input side, of other classes or of another layout.
    """
    expected = layout_of(onnx)
    found = {name: layout_of(path) for name, path in graphs.items()}
    if wrong := {name: layout for name, layout in found.items() if layout != expected}:
        raise SlimError(
            f"Some graphs weren't made from {onnx} ({expected}).",
            culprits=[f"{graphs[name]} ({name}): {layout}" for name, layout in wrong.items()],
            remedy="Give the folder that `yolo-slim quantize` made from this ONNX file (--quantized).",
        )


def _described(metadata: dict[str, str]) -> tuple[str, GraphLayout]:
    """The task and the layout that Ultralytics' metadata describe."""
    import ast

    # Ultralytics writes values by str(): Python literals, not JSON.
    height, width = ast.literal_eval(metadata["imgsz"])
    names = {int(key): str(value) for key, value in ast.literal_eval(metadata["names"]).items()}
    layout = "end2end" if metadata.get("end2end") == "True" else "one2many"
    stride = int(metadata["stride"])
    return metadata["task"], GraphLayout(imgsz=(height, width), names=names, layout=layout, stride=stride)


def _require_names(onnx: Path, layout: GraphLayout) -> None:
    if problems := name_problems(layout.names):
        raise SlimError(
            f"{onnx}: its class names can't be used.",
            culprits=problems,
            remedy="Name every class in the checkpoint, and export it again with `yolo-slim export`.",
        )


def _require_fixed_input(onnx: Path, graph: Any) -> None:
    """Raise unless height and width are numbers: without them neither work nor latency can be told."""
    weights = {item.name for item in graph.graph.initializer}
    images = [item for item in graph.graph.input if item.name not in weights]
    sides = images[0].type.tensor_type.shape.dim[2:] if images else []
    if len(sides) != 2 or not all(side.dim_value > 0 for side in sides):
        shown = " x ".join(str(side.dim_value or side.dim_param or "?") for side in sides)
        raise SlimError(
            f"{onnx}: its input has no fixed height and width ({shown or 'none'}).",
            remedy="Export it with a fixed imgsz, without dynamic=True: `yolo-slim export` does.",
        )


def _require_output(onnx: Path, graph: Any, layout: GraphLayout) -> None:
    """Raise unless the output's shape agrees with the metadata."""
    shape = [size.dim_value for size in graph.graph.output[0].type.tensor_type.shape.dim]
    is_end2end = layout.layout == "end2end"
    expected = 6 if is_end2end else 4 + len(layout.names)
    if len(shape) != 3 or shape[2 if is_end2end else 1] != expected:
        raise SlimError(
            f"{onnx}: its output {shape} doesn't fit {len(layout.names)} classes in layout {layout.layout}."
        )
