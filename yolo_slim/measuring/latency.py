"""The latency table: what the convolutions of a network take on one device, and how that adds up to a frame.

Single convolutions are timed over a grid of widths; where the runtime can't do that, they count by their MACs. Their
sum isn't a network's time: tensors are rearranged, split and joined between them, and a cache is warm or cold. A line
is therefore fitted to whole cut networks that were timed on the same device; other networks, which the fit didn't see,
say how far it is off.

Schema 2 of ``latency.json`` is :class:`LatencyTable`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from yolo_slim.build_key import BuildName
from yolo_slim.bundle import PACKAGES
from yolo_slim.config.record import BuildNameText, Record, read_record
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.errors import CHECK_PATH, SlimError
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.measuring.latency_cut import after_exchange
from yolo_slim.measuring.layer_grids import MEASURE_AGAIN, Floats, LayerGrid

SCHEMA = 2
KIND = "latency"
OUTLIER = 0.02
"""Relative error from which a network counts less in the fit."""
CACHED_MB = 0.25
"""Weights of one layer that the cache keeps between two timings of it alone, megabytes. Chosen on an AMD EPYC, where
tables of ONNX Runtime and NCNN were right most often with it. No other processor was tried."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the time of convolutions is predicted from; of one network, or arrays of one shape."""

    layers_ms: Any
    """What they take alone, milliseconds; where they are counted, thousand million MACs."""
    moved_mb: Any
    """What they read and write, megabytes."""
    weights_mb: Any
    """Their weights, megabytes, of each at most :data:`CACHED_MB`. Alone a layer finds so much in the cache; in a
    network it mostly doesn't."""

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
    """Sum of its convolutions in the grid, milliseconds; where they are counted, thousand million MACs."""
    moved_mb: float
    """What its convolutions read and write, megabytes."""
    weights_mb: float
    """Weights of its convolutions, megabytes, of each at most :data:`CACHED_MB`."""
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
    """Milliseconds of a network for one of its convolutions' sum; where counted, for a thousand million MACs."""
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
"""What a network's time may be fitted to, beside a constant."""
MOST_BELOW_0 = 0.05
"""Share of the slowest network's time by which the constant may be below 0. Without a limit a few timings can make it a
quarter, and what is predicted of smaller networks than those of the fit is far too little."""
MOST_ALIKE = 100.0
"""Condition number up to which weights and convolutions are told apart. Those of measured tables are 12 to 27."""
LEAST_GAIN = 0.005
"""By how much the mean error of networks that were left out must fall for what is moved to count, as a fraction."""


def counting(networks: Sequence[TimedNetwork]) -> list[TimedNetwork]:
    """Those whose timing counts; all of them where that is less than half."""
    found = [one for one in networks if not one.invalid_reasons]
    return found if 2 * len(found) >= len(networks) else list(networks)


def fitted(networks: Sequence[TimedNetwork]) -> Fit:
    """Fit the line to the relative errors; a single network that was timed badly hardly moves it.

    Networks with long convolutions also move much and have many weights, so that few networks can't always tell all
    terms apart. The convolutions always count, because a search would make use of it if they didn't. So do the weights:
    cuts of trained networks lose most of theirs, and a table without them is wrong there even if it is right for the
    networks that it was fitted to. What is moved counts if each network is predicted better from the rest with it
    (leave one out).
    """
    rows = np.array([[*(getattr(one, term) for term in TERMS), 1.0] for one in networks])
    ms = np.array([one.ms for one in networks])
    always, every = [TERMS.index("layers_ms"), TERMS.index("weights_mb")], range(len(TERMS))
    if _alike(rows[:, [*always, len(TERMS)]]) > MOST_ALIKE:
        # The weights rise in a line with the convolutions: nothing tells what they cost.
        always = always[:1]
    is_better = _error_of_left_out(rows, ms, every) < _error_of_left_out(rows, ms, always) - LEAST_GAIN
    terms = every if is_better else always
    per_layer_ms, per_mb, per_weight_mb, constant_ms = _coefficients(rows, ms, terms).tolist()
    return Fit(per_layer_ms=per_layer_ms, per_mb=per_mb, per_weight_mb=per_weight_mb, constant_ms=constant_ms)


def _alike(columns: Floats) -> float:
    """The condition number of columns of equal length: 1 where they are independent, infinite where one follows."""
    return float(np.linalg.cond(columns / np.linalg.norm(columns, axis=0)))


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

    A layer's time and a megabyte cost something or nothing. The constant may be negative, because small networks stay
    in the cache, but not by more than :data:`MOST_BELOW_0`.
    """
    from scipy.optimize import least_squares

    used = [*terms, len(TERMS)]
    relative = rows[:, used] / ms[:, None]
    start = 1 / np.abs(relative).max(axis=0) / len(used)
    bounds = ([0.0] * len(terms) + [-MOST_BELOW_0 * ms.max()], [np.inf] * len(used))
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
    """What was timed on, with the versions of its runtimes."""
    device: str = ""
    """Its address; empty: this machine."""
    activation: str = "none"
    """``recover.activation`` of the networks that were timed; none: their own."""
    as_silu: tuple[str, ...] = ()
    """Activations that single convolutions have no name for: these were timed with SiLU."""
    kept_float: tuple[str, ...] = ()
    """Convolutions that stayed float in networks that were timed in int8: those of the unpruned network's bundle."""
    target_settings: JsonObject = Field(default_factory=dict)
    """Further settings of the target that decide the milliseconds, such as those of TensorRT's engine."""
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
    paired_ms: float | None = None
    """The same where it was timed in turns with other networks; null: it wasn't."""
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
        checks = counting([one for one in self.networks if one.role == "check"])
        found = [abs(self.fit.ms(one.load) / one.ms - 1) for one in checks]
        return TableError(median=float(np.median(found)), worst=max(found), networks=len(found))

    @property
    def control_frame_ms(self) -> float:
        """The unpruned network's frame, end to end."""
        return self.control_ms + self.overhead_ms

    @property
    def times_layers(self) -> bool:
        """Whether single convolutions were timed; else they count by their multiply-accumulates."""
        return not any(grid.is_computed for grid in self.grids)

    @property
    def exchanged(self) -> str:
        """The activation that was exchanged, after the name of a network, for people; empty: none."""
        return after_exchange(self.activation)

    @property
    def measured_for(self) -> JsonObject:
        """What its milliseconds hold for, and for nothing else."""
        return {
            "model_sha256": self.model_sha256, "imgsz": self.imgsz, "build": str(self.build), "target": self.target,
            "threads": self.threads, "activation": self.activation, "device": self.device or "this machine",
            **of_machine(self.machine, self.build), **self.target_settings,
        }  # fmt: skip

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


def unlike_network(table: LatencyTable) -> list[str]:
    """Say what was timed otherwise than the network has it, one fact a line."""
    lines = []
    if not table.times_layers:
        lines.append(
            "Single convolutions aren't timed: they count by their multiply-accumulates, so the table is less exact."
        )
    if table.as_silu:
        lines.append(
            f"Single convolutions before {', '.join(table.as_silu)} were timed with SiLU, which may take longer or "
            "shorter; whole networks were timed as they are."
        )
    return lines


def of_machine(machine: DeviceFacts, build: BuildName) -> JsonObject:
    """What of a machine decides the milliseconds of a build: model, cores, and the versions of its runtime."""
    versions = {name: machine.runtimes[name] for name in PACKAGES[build.runtime] if name in machine.runtimes}
    return {"machine": machine.model, "cores": machine.cores, **versions}


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
