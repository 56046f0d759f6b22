"""What single convolutions of a kind take over their widths: the grid that is timed or counted, and what lies between.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.backends.layers import Layer, LayerKind
from yolo_slim.config.record import Record
from yolo_slim.errors import SlimError

MEASURE_AGAIN = "Measure the table again with `yolo-slim latency`."
BYTES = 4
"""Bytes of one value of a tensor or weight: what a convolution reads and writes is counted as fp32 in every runtime."""
Floats = NDArray[np.float64]


def coarse_widths(largest: int) -> list[int]:
    """Widths that are timed in every pair: powers of two, and the largest."""
    return sorted({largest, *(width for power in range(3, 12) if (width := 2**power) < largest)})


def fine_widths(largest: int) -> list[int]:
    """Widths between them that show the steps in which a runtime gets faster."""
    wanted = [*range(8, 128, 8), *range(128, 257, 16), *range(256, 513, 32)]
    return [width for width in wanted if width < largest and width not in coarse_widths(largest)]


class LayerGrid(Record):
    """The milliseconds of one kind of convolution over its widths; where it is counted, thousand million MACs."""

    kernel: tuple[int, int]
    """Height and width."""
    stride: tuple[int, int]
    """Of the kernel's steps."""
    padding: tuple[int, int]
    """Of the input, on each side."""
    depthwise: bool
    """Every output channel reads one input channel."""
    size: tuple[int, int]
    """Height and width of the input."""
    activation: str
    """What follows the convolution."""
    inputs: tuple[int, ...]
    """Input widths of the grid, ascending."""
    outputs: tuple[int, ...]
    """Output widths of the grid, ascending; of a depthwise convolution the only ones."""
    ms: tuple[tuple[float, ...], ...]
    """Milliseconds by input and output width, shape (inputs, outputs)."""
    fine_inputs: dict[int, float]
    """Milliseconds of further input widths, with the largest output width."""
    fine_outputs: dict[int, float]
    """Milliseconds of further output widths, with the largest input width."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timings don't count."""
    is_computed: bool = False
    """Whether the convolutions were counted, not timed."""

    @property
    def kind(self) -> LayerKind:
        """The kind of convolution."""
        return LayerKind(**{key: getattr(self, key) for key in LayerKind.__dataclass_fields__})

    def ms_at(self, inputs: Floats, outputs: Floats) -> Floats:
        """Milliseconds of convolutions of these widths, by interpolation between timed ones.

        Args:
            inputs: input channels, any shape; ignored where the convolution is depthwise.
            outputs: output channels, the same shape.
        """
        rows, columns = np.array(self.inputs, float), np.array(self.outputs, float)
        grid = np.array(self.ms)
        if self.depthwise:
            return _line(outputs, *_joined(columns, grid[0], self.fine_outputs))
        found = _bilinear(inputs, outputs, rows, columns, grid)
        # How much dearer or cheaper a width is than the line between its neighbours, whatever the other side's width.
        return (
            found
            * _step(inputs, rows, grid[:, -1], self.fine_inputs)
            * _step(outputs, columns, grid[-1], self.fine_outputs)
        )


def grid_of(grids: Sequence[LayerGrid], kind: LayerKind, layer: str) -> LayerGrid:
    """The grid of a layer's kind.

    Raises:
        SlimError: there is none.
    """
    found = next((grid for grid in grids if grid.kind == kind), None)
    if found is None:
        raise SlimError(
            "The latency table has no entry for a kind of layer of this network.",
            culprits=[f"{layer}: {kind}"],
            remedy=MEASURE_AGAIN,
            topic="the-latency-table-doesnt-fit",
        )
    return found


def _line(x: Floats, at: Floats, values: Floats) -> Floats:
    """Interpolate linearly; below the first point in proportion to the width."""
    return np.asarray(np.interp(x, np.concatenate([[0.0], at]), np.concatenate([[values[0] * 0.5], values])))


def _joined(at: Floats, values: Floats, fine: dict[int, float]) -> tuple[Floats, Floats]:
    """Add the further points to a line."""
    points = dict(zip(at.tolist(), values.tolist(), strict=True)) | {float(key): value for key, value in fine.items()}
    order = sorted(points)
    return np.array(order), np.array([points[key] for key in order])


def _step(x: Floats, at: Floats, values: Floats, fine: dict[int, float]) -> Floats:
    """The fine line in units of the coarse one."""
    if not fine:
        return np.ones_like(x, dtype=float)
    return _line(x, *_joined(at, values, fine)) / _line(x, at, values)


def _bilinear(x: Floats, y: Floats, rows: Floats, columns: Floats, grid: Floats) -> Floats:
    """Interpolate in both directions."""
    i, s = _place(x, rows)
    j, t = _place(y, columns)
    i1, j1 = np.minimum(i + 1, len(rows) - 1), np.minimum(j + 1, len(columns) - 1)
    lower = grid[i, j] * (1 - t) + grid[i, j1] * t
    upper = grid[i1, j] * (1 - t) + grid[i1, j1] * t
    return np.asarray(np.maximum(lower * (1 - s) + upper * s, 0.0))


def _place(x: Floats, at: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The interval of every value, and how far it is through it; below the first point nothing is extrapolated."""
    index = np.clip(np.searchsorted(at, x, side="right") - 1, 0, max(len(at) - 2, 0))
    if len(at) == 1:
        return index, np.zeros_like(x, dtype=float)
    return index, np.clip((x - at[index]) / (at[index + 1] - at[index]), 0.0, None)


def moved_mb(kind: LayerKind, inputs: Any, outputs: Any) -> Any:
    """Megabytes that convolutions of these widths read and write, weights aside."""
    read = kind.size[0] * kind.size[1] * (outputs if kind.depthwise else inputs)
    written = kind.output_size[0] * kind.output_size[1] * outputs
    return (read + written) * BYTES / 1e6


def weights_mb(kind: LayerKind, inputs: Any, outputs: Any) -> Any:
    """Megabytes of the weights of convolutions of these widths."""
    area = kind.kernel[0] * kind.kernel[1]
    return area * (outputs if kind.depthwise else inputs * outputs) * BYTES / 1e6


def layers_of_grid(kind: LayerKind, inputs: int, outputs: int) -> list[Layer]:
    """The layers to time for a kind whose widths go up to ``inputs`` and ``outputs``."""
    if kind.depthwise:
        return [
            Layer(kind=kind, inputs=width, outputs=width)
            for width in sorted([*coarse_widths(outputs), *fine_widths(outputs)])
        ]
    pairs = [(i, o) for i in coarse_widths(inputs) for o in coarse_widths(outputs)]
    pairs += [(i, outputs) for i in fine_widths(inputs)] + [(inputs, o) for o in fine_widths(outputs)]
    return [Layer(kind=kind, inputs=i, outputs=o) for i, o in pairs]


def computed_grid(kind: LayerKind, inputs: int, outputs: int, multiple: int) -> LayerGrid:
    """The grid of a kind in a runtime that can't time single layers: its multiply-accumulates.

    Args:
        kind: the kind of convolution.
        inputs: largest input width.
        outputs: largest output width.
        multiple: channels that the runtime computes at once (``channel_multiple`` of the target): one more costs as
            much as as many more.
    """
    area = math.prod(kind.kernel) * math.prod(kind.output_size)
    ms = {}
    for layer in layers_of_grid(kind, inputs, outputs):
        read = 1 if kind.depthwise else _up(layer.inputs, multiple)
        ms[layer.inputs, layer.outputs] = area * read * _up(layer.outputs, multiple) / 1e9
    return grid_from(kind, inputs, outputs, ms).model_copy(update={"is_computed": True})


def _up(width: int, multiple: int) -> int:
    return -(-width // multiple) * multiple


def grid_from(
    kind: LayerKind, inputs: int, outputs: int, ms: Mapping[tuple[int, int], float], reasons: Sequence[str] = ()
) -> LayerGrid:
    """Put the timings of :func:`layers_of_grid` together; keys of ``ms`` are (inputs, outputs)."""
    fields: dict[str, Any] = {key: getattr(kind, key) for key in LayerKind.__dataclass_fields__}
    fields["invalid_reasons"] = tuple(reasons)
    if kind.depthwise:
        widths = sorted(outputs for _, outputs in ms)
        row = tuple(ms[width, width] for width in widths)
        return LayerGrid(**fields, inputs=(1,), outputs=tuple(widths), ms=(row,), fine_inputs={}, fine_outputs={})
    rows, columns = coarse_widths(inputs), coarse_widths(outputs)
    return LayerGrid(
        **fields,
        inputs=tuple(rows),
        outputs=tuple(columns),
        ms=tuple(tuple(ms[i, o] for o in columns) for i in rows),
        fine_inputs={i: ms[i, outputs] for i in fine_widths(inputs)},
        fine_outputs={o: ms[inputs, o] for o in fine_widths(outputs)},
    )
