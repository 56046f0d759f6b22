"""One check of a graph, and what all checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from yolo_slim.config.profile import JetPack, Profile
from yolo_slim.errors import SlimError


class Answer(NamedTuple):
    """What a check found."""

    status: str
    """``pass``, ``fail``, ``unproven`` (only the device can show) or ``skipped``."""
    detail: str
    """What was found, or why there is no answer."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question and its answer."""

    name: str
    """What was asked."""
    status: str
    """As in :class:`Answer`."""
    detail: str
    """As in :class:`Answer`."""


@dataclass(frozen=True, kw_only=True)
class CheckedGraph:
    """A graph and the target it is meant for."""

    model: Any
    """``onnx.ModelProto`` with inferred shapes."""
    types: dict[str, int]
    """Tensor name to ``onnx.TensorProto`` element type, where known."""
    profile: Profile
    precision: str
    layout: str

    @property
    def jetpacks(self) -> list[JetPack]:
        """The profile's JetPacks, none for a profile without them."""
        return [] if self.profile.jetson is None else self.profile.jetson.jetpacks

    @property
    def quantizers(self) -> list[Any]:
        """The Q/DQ nodes."""
        return [node for node in self.model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]


def read_graph(path: Path, profile: Profile, precision: str, layout: str) -> CheckedGraph:
    """Read a graph with the types of all its tensors.

    Raises:
        SlimError: the file isn't readable ONNX.
    """
    import onnx

    try:
        model = onnx.load(path)
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf's and onnx's exception classes share no public base
        raise SlimError(f"{path} isn't a readable ONNX file: {error}", remedy="Export it again.") from None
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
    return CheckedGraph(model=model, types=types, profile=profile, precision=precision, layout=layout)
