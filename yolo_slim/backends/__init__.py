"""Adding a backend: a folder here with a module that satisfies :class:`Backend`, and its name in ``bundle.py``.

A backend builds a bundle's model files from an ONNX file on the workstation, and opens them on the device. Vendor
packages are imported inside the function that needs them, so that every backend imports on a bare device.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from yolo_slim.bundle import RUNTIMES
from yolo_slim.errors import SlimError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.bundle import BundleSpec

BACKENDS: dict[str, str] = {name: f"{__name__}.{name}" for name in RUNTIMES}
"""Runtime name to the module that satisfies :class:`Backend`."""

OptionValue = bool | int | str
Options = Mapping[str, OptionValue]
"""How a runtime computes on one device, by the names of its module's ``OPTIONS``; what isn't named is as always."""

OnStep = Callable[[str], object]
"""Called with one line for people on what is being done now."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a backend wrote."""

    model: dict[str, str]
    """Role to file name, relative to the bundle's folder."""
    input_name: str
    """Name of the input tensor in the built model."""
    output_name: str
    """Name of the output tensor in the built model."""


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """What really runs, for results: asked for and got may differ, and only this says so."""

    runtime: str
    """Name of the runtime."""
    versions: dict[str, str]
    """Vendor package to version."""
    provider: str
    """What computes: ``CPUExecutionProvider``, the GPU's name."""
    threads: int
    """Inference threads."""
    precision: str
    """Precision of the model."""
    details: dict[str, object] = field(default_factory=dict)
    """What only this runtime has, such as whether a CUDA graph is used."""

    def to_json(self) -> dict[str, object]:
        """All facts side by side, as they stand in results."""
        return {
            "runtime": self.runtime,
            **self.versions,
            "provider": self.provider,
            "threads": self.threads,
            "precision": self.precision,
            **self.details,
        }


class Session(Protocol):
    """A loaded model. Not for use from several threads at once."""

    def infer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one image.

        Args:
            blob: (1, 3, h, w) float32 in [0, 1], RGB, contiguous.

        Returns:
            The raw output: (1, 4 + classes, anchors), or (1, 300, 6) of an end2end model. Valid until the next call.
        """

    def describe(self) -> RuntimeFacts:
        """What really runs."""

    def close(self) -> None:
        """Free the model."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of a network, as the runtime computes it."""

    kind: str
    """The runtime's own name of the operation, such as ``Conv`` or ``Swish``."""
    name: str
    """Its name in the model."""
    ms: float
    """Median of the frames, milliseconds."""
    is_decoding: bool = False
    """It belongs to the end of the head, which makes boxes and scores of the last convolutions' outputs."""


@dataclass(frozen=True, kw_only=True)
class OperationTimes:
    """What every operation of a network took, and the whole."""

    operations: tuple[Operation, ...]
    """In the order of execution."""
    frame_ms: float
    """Median inference time of the same run, milliseconds."""


class OperationTimer(Protocol):
    """``time_operations`` of a backend whose runtime can tell what each operation takes."""

    def __call__(
        self,
        folder: Path,
        spec: BundleSpec,
        blob: NDArray[np.float32],
        frames: int,
        threads: int,
        **options: OptionValue,
    ) -> OperationTimes:
        """Run one input ``frames`` times in a session of its own; the first frames don't count."""


class EngineReport(Protocol):
    """What a backend's ``build_engine`` built, or found up to date."""

    def to_json(self) -> dict[str, object]:
        """Everything known of the engine."""

    def summary(self) -> str:
        """One line for people."""


class EngineBuilder(Protocol):
    """``build_engine`` of a backend whose engine only the device can build."""

    def __call__(self, folder: Path, spec: BundleSpec, on_step: OnStep, *, force: bool = False) -> EngineReport:
        """Build the engine in a bundle's folder; an engine that is up to date stays unless ``force``."""


class Backend(Protocol):
    """A module of this package.

    Three functions and a table are optional, see :func:`engine_builder`, :func:`extra_files`,
    :func:`operation_timer` and :func:`options_of`.
    """

    NAME: str
    PRECISIONS: tuple[str, ...]

    def build(self, onnx: Path, out: Path, *, precision: str, imgsz: tuple[int, int]) -> Built:
        """Write the model files for an ONNX file into the folder ``out``."""

    def open(self, folder: Path, spec: BundleSpec, threads: int, **options: OptionValue) -> Session:
        """Load the model files of a bundle; ``options`` are of its ``OPTIONS``."""

    def versions(self) -> dict[str, str]:
        """The versions of the runtime's packages (``bundle.PACKAGES``); a missing one is a :class:`SlimError`."""


def backend(name: str) -> Backend:
    """Import the module of a runtime.

    Raises:
        SlimError: no such runtime.
    """
    if name not in BACKENDS:
        raise SlimError(
            f"Unknown runtime '{name}'.{did_you_mean(name, list(BACKENDS))}",
            remedy=f"Choose one of: {', '.join(BACKENDS)}.",
        )
    return cast("Backend", importlib.import_module(BACKENDS[name]))


def engine_builder(name: str) -> EngineBuilder | None:
    """``build_engine`` of a runtime whose engine only the device can build; None for the others."""
    return cast("EngineBuilder | None", getattr(backend(name), "build_engine", None))


def operation_timer(name: str) -> OperationTimer | None:
    """``time_operations`` of a runtime; None where it tells nothing but the time of a whole inference."""
    return cast("OperationTimer | None", getattr(backend(name), "time_operations", None))


def options_of(name: str) -> dict[str, tuple[OptionValue, ...]]:
    """The options of a runtime with the values that are worth a trial on a device, the usual one first."""
    return dict(getattr(backend(name), "OPTIONS", {}))


def require_options(name: str, options: Options) -> None:
    """Refuse options that a runtime doesn't have, and values that it doesn't know."""
    known = options_of(name)
    problems = [f"{key}: unknown.{did_you_mean(key, list(known))}" for key in options if key not in known]
    problems += [
        f"{key}: got {value!r}; expected one of {', '.join(map(repr, known[key]))}"
        for key, value in options.items()
        # True == 1 in Python, and a count of one is no flag.
        if key in known and (type(value), value) not in [(type(one), one) for one in known[key]]
    ]
    if problems:
        remedy = f"{name} has the options {', '.join(known)}." if known else f"{name} has no options."
        raise SlimError("These options can't be used.", culprits=problems, remedy=remedy)


def extra_files(spec: BundleSpec) -> dict[str, str]:
    """The text files (name to content) that a runtime adds to its bundles, such as ``install.sh``."""
    make = getattr(backend(spec.runtime), "extra_files", None)
    return {} if make is None else dict(make(spec))


def require_precision(runtime: str, precision: str, known: tuple[str, ...]) -> None:
    """Refuse a precision that a backend can't build."""
    if precision not in known:
        raise SlimError(
            f"{runtime} bundles are {' or '.join(known)}, not {precision}.",
            remedy=f"Ask for precision {known[0]}, or another runtime.",
        )
