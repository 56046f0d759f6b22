"""The latency table: what the convolutions of a network take on one device, and how that adds up to a frame.

Single convolutions are timed over a grid of widths. Their sum isn't a network's time: tensors are rearranged, split and
joined between them, and a cache is warm or cold. A line is therefore fitted to whole cut networks that were timed on
the same device; other networks, which the fit didn't see, say how far it is off.

Schema 2 of ``latency.json`` is :class:`LatencyTable`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.backends.layers import Layer, LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.config.record import BuildNameText, Record, read_record
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.errors import CHECK_PATH, SlimError
from yolo_slim.files import read_json, write_json

SCHEMA = 2
KIND = "latency"
MEASURE_AGAIN = "Measure the table again with `yolo-slim latency`."
OUTLIER = 0.02
"""Relative error from which a network counts less in the fit."""
SAME_ERROR = 0.01
"""Errors of two fits, as fractions, that are so near are equal, and the fit with fewer terms is taken: timings of one
network scatter as much."""
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
    """The milliseconds of one kind of convolution over its widths."""

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


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the time of convolutions is predicted from; of one network, or arrays of one shape."""

    layers_ms: Any
    """What they take alone, milliseconds."""
    moved_mb: Any
    """What they read and write, megabytes."""
    weights_mb: Any
    """Their weights, megabytes. Alone a layer finds them in the cache; in a network it mostly doesn't."""

    @property
    def total(self) -> Load:
        """The sum over all convolutions."""
        return Load(
            layers_ms=float(self.layers_ms.sum()),
            moved_mb=float(self.moved_mb.sum()),
            weights_mb=float(self.weights_mb.sum()),
        )


class TimedNetwork(Record):
    """A whole network that was timed."""

    name: str
    """What it is, for people."""
    layers_ms: float
    """Sum of its convolutions in the grid, milliseconds."""
    moved_mb: float
    """What its convolutions read and write, megabytes."""
    weights_mb: float
    """Weights of its convolutions, megabytes."""
    ms: float
    """Median inference, milliseconds: the unpruned network's times the median ratio of the rounds."""
    role: str
    """``fit``: the line was fitted to it; ``check``: it says how far the line is off."""
    invalid_reasons: tuple[str, ...] = ()
    """Why its timing doesn't count."""

    @property
    def load(self) -> Load:
        """What its time is predicted from."""
        return Load(layers_ms=self.layers_ms, moved_mb=self.moved_mb, weights_mb=self.weights_mb)


class Fit(Record):
    """A line through the timed networks: milliseconds of a network's inference."""

    per_layer_ms: float
    """Milliseconds of a network for one of its convolutions' sum."""
    per_mb: float
    """Milliseconds for a megabyte that they read and write."""
    per_weight_mb: float
    """Milliseconds for a megabyte of their weights."""
    constant_ms: float
    """Milliseconds of everything else."""

    def layers(self, load: Load) -> Any:
        """The time of convolutions, milliseconds."""
        return self.per_layer_ms * load.layers_ms + self.per_mb * load.moved_mb + self.per_weight_mb * load.weights_mb

    def ms(self, load: Load) -> float:
        """The time of a network, milliseconds."""
        return float(self.layers(load) + self.constant_ms)


LAYERS_ALONE = Fit(per_layer_ms=1.0, per_mb=0.0, per_weight_mb=0.0, constant_ms=0.0)
"""The sum of the convolutions, before anything is fitted."""


TERMS = ("layers_ms", "moved_mb", "weights_mb")
"""What a network's time may be fitted to, beside a constant; the first one always."""


def fitted(networks: Sequence[TimedNetwork]) -> Fit:
    """Fit the line to the relative errors; a single network that was timed badly hardly moves it.

    Networks with long convolutions also move much and have many weights, so that few networks can't tell all terms
    apart. The convolutions always count, because a search would make use of it if they didn't; of the others, the terms
    are used that predict each network best from the rest (leave one out).
    """
    rows = np.array([[*(getattr(one, term) for term in TERMS), 1.0] for one in networks])
    ms = np.array([one.ms for one in networks])
    others = range(1, len(TERMS))
    sets = [(0, *chosen) for size in range(len(TERMS)) for chosen in combinations(others, size)]
    best = min(sets, key=lambda terms: round(_error_of_left_out(rows, ms, terms) / SAME_ERROR))
    per_layer_ms, per_mb, per_weight_mb, constant_ms = _coefficients(rows, ms, best).tolist()
    return Fit(per_layer_ms=per_layer_ms, per_mb=per_mb, per_weight_mb=per_weight_mb, constant_ms=constant_ms)


def _error_of_left_out(rows: Floats, ms: Floats, terms: Sequence[int]) -> float:
    """Mean relative error of each network, predicted from the others with these terms."""
    errors = []
    for left_out in range(len(ms)):
        seen = np.arange(len(ms)) != left_out
        predicted = rows[left_out] @ _coefficients(rows[seen], ms[seen], terms)
        errors.append(abs(predicted / ms[left_out] - 1))
    return float(np.mean(errors))


def _coefficients(rows: Floats, ms: Floats, terms: Sequence[int]) -> Floats:
    """Coefficients of these terms and the constant; the other terms have 0.

    A layer's time and a megabyte cost something or nothing. The constant may be negative: small networks stay in the
    cache.
    """
    from scipy.optimize import least_squares

    used = [*terms, len(TERMS)]
    relative = rows[:, used] / ms[:, None]
    start = 1 / np.abs(relative).max(axis=0) / len(used)
    bounds = ([0.0] * len(terms) + [-np.inf], [np.inf] * len(used))
    found = least_squares(lambda x: relative @ x - 1, start, bounds=bounds, loss="soft_l1", f_scale=OUTLIER)
    coefficients = np.zeros(len(TERMS) + 1)
    coefficients[used] = found.x
    return coefficients


@dataclass(frozen=True, kw_only=True)
class TableError:
    """How far a table was off on networks that its line wasn't fitted to."""

    median: float
    """Fraction of the measured time."""
    worst: float
    networks: int

    def __str__(self) -> str:
        """For people: ``2.1% median, 4.0% worst of 4 networks that it didn't see``."""
        return f"{self.median:.1%} median, {self.worst:.1%} worst of {self.networks} networks that it didn't see"


class LatencyTable(Record):
    """What one network's cuts take on one device in one runtime."""

    model_sha256: str
    """SHA-256 of the checkpoint."""
    imgsz: int
    """Input side, pixels."""
    target: str
    """Name of the device profile."""
    build: BuildNameText
    """Runtime and precision: ``ncnn-fp16``."""
    threads: int
    """Inference threads."""
    machine: DeviceFacts
    """What was timed on."""
    is_measured_on_target: bool
    """Whether the milliseconds are those of the target."""
    measured_at: str
    """UTC, ISO 8601."""
    command: str
    """Command line."""
    versions: dict[str, str]
    """Packages of the workstation."""
    control_ms: float
    """Median inference of the unpruned network, milliseconds."""
    overhead_ms: float
    """Pre- and post-processing of the unpruned network's frame, milliseconds: a cut doesn't change them."""
    grids: tuple[LayerGrid, ...]
    """Every kind of convolution that the network has."""
    networks: tuple[TimedNetwork, ...]
    """Whole networks that were timed."""
    fit: Fit
    """From convolutions to a network."""
    layer_seconds: float
    """Duration of the timing of single convolutions."""
    seconds: float
    """Duration of the last call: of a resumed measurement, its last part."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the table doesn't count: the machine was throttled, busy or emulated."""

    @property
    def error(self) -> TableError:
        """How far the table was off on the networks that were kept for it."""
        found = [abs(self.fit.ms(one.load) / one.ms - 1) for one in self.networks if one.role == "check"]
        return TableError(median=float(np.median(found)), worst=max(found), networks=len(found))

    @property
    def control_frame_ms(self) -> float:
        """The unpruned network's frame, end to end."""
        return self.control_ms + self.overhead_ms

    def to_json(self) -> dict[str, object]:
        """The content of ``latency.json``."""
        return {"schema": SCHEMA, "kind": KIND, **super().to_json()}

    def save(self, path: Path) -> None:
        """Write the table, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read a table.

        Raises:
            SlimError: no such file, another file or schema, or a damaged table.
        """
        try:
            value: Any = read_json(path)
        except FileNotFoundError:
            raise SlimError(f"Latency table not found: {path}", remedy=CHECK_PATH) from None
        except ValueError as error:
            raise SlimError(f"{path}: not JSON ({error}).", remedy=MEASURE_AGAIN) from None
        if not isinstance(value, dict) or (value.get("schema"), value.get("kind")) != (SCHEMA, KIND):
            raise SlimError(f"{path}: not a latency table of schema {SCHEMA}.", remedy=MEASURE_AGAIN)
        content = {key: item for key, item in value.items() if key not in ("schema", "kind")}
        return read_record(cls, content, str(path), MEASURE_AGAIN)


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


def table_name(build: BuildName) -> str:
    """Name of a build's table inside its folder."""
    return f"{build}.json"


@dataclass(frozen=True, kw_only=True)
class LatencyOutputs:
    """What the stage wrote."""

    tables: Mapping[BuildName, Path]
    """``BUILD.json`` of every build."""
    page: Path
    """``latency.html``: errors and widths, opens offline."""
    request: str
    """Digest of what was asked for: equal for equal settings and inputs on the same device, whatever the versions."""
