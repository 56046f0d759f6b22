"""One convolution as a graph of its own, which a device times for a latency table.

Two functions of a backend are optional: ``layer_graph`` writes such a graph as text on the workstation, ``open_layer``
loads it on the device. The weights aren't in the file, because time doesn't depend on them: the runtime makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from yolo_slim.backends import backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ACTIVATIONS = ("none", "silu", "relu", "hardswish")
"""Activations that a graph can have after its convolution."""

RunLayer = Callable[[], object]
"""Runs a loaded graph once, on an input that is in place: this is timed."""
PrepareLayer = Callable[["NDArray[np.float32]"], RunLayer]
"""Puts one input, (1, inputs, height, width) float32, where the layer before would leave it in a network."""


@dataclass(frozen=True, kw_only=True, order=True)
class LayerKind:
    """What convolutions of different widths have in common."""

    kernel: tuple[int, int]
    """Height and width."""
    stride: tuple[int, int]
    padding: tuple[int, int]
    depthwise: bool
    """Every output channel reads one input channel."""
    size: tuple[int, int]
    """Height and width of the input."""
    activation: str
    """One of :data:`ACTIVATIONS`."""

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(self.size, self.padding, self.kernel, self.stride, strict=True)
        )
        return height, width

    def __str__(self) -> str:
        """A name for people and for files: ``3x3 stride 2, 80x80, silu``."""
        stride = f" stride {self.stride[0]}" if self.stride != (1, 1) else ""
        kind = "depthwise " if self.depthwise else ""
        return f"{kind}{self.kernel[0]}x{self.kernel[1]}{stride}, {self.size[0]}x{self.size[1]}, {self.activation}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution."""

    kind: LayerKind
    inputs: int
    """Input channels; of a depthwise one as many as ``outputs``."""
    outputs: int
    """Output channels."""

    @property
    def groups(self) -> int:
        """Groups of the convolution."""
        return self.outputs if self.kind.depthwise else 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return (self.inputs, *self.kind.size)


class LayerGraph(Protocol):
    """``layer_graph`` of a backend."""

    def __call__(self, layer: Layer) -> str:
        """The graph as text, of the runtime's float precision."""


class OpenLayer(Protocol):
    """``open_layer`` of a backend."""

    def __call__(self, graph: str, threads: int) -> PrepareLayer:
        """Load a graph that ``layer_graph`` wrote."""


def layer_graph_of(runtime: str) -> LayerGraph | None:
    """``layer_graph`` of a runtime; None where it has none."""
    return cast("LayerGraph | None", getattr(backend(runtime), "layer_graph", None))


def open_layer_of(runtime: str) -> OpenLayer | None:
    """``open_layer`` of a runtime; None where it has none."""
    return cast("OpenLayer | None", getattr(backend(runtime), "open_layer", None))
