"""One module per runtime. A new one is a file here and a line in :data:`BACKENDS`.

A backend builds its model files from an ONNX file on the workstation and opens them on the device. Vendor packages are
imported inside the function that needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from yolo_slim.errors import SlimError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.bundle import BundleSpec

BACKENDS: dict[str, str] = {
    "onnxruntime": "yolo_slim.backends.onnxruntime",
    "ncnn": "yolo_slim.backends.ncnn",
    "tensorrt": "yolo_slim.backends.tensorrt",
}
"""Runtime name to the module that satisfies :class:`Backend`."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a backend wrote."""

    model: dict[str, str]
    """Role to file name, relative to the bundle's folder."""
    input_name: str
    """Name of the input tensor in the built model."""
    output_name: str
    """Name of the output tensor in the built model."""


class Session(Protocol):
    """A loaded model. Not for use from several threads at once."""

    def infer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one image.

        Args:
            blob: (1, 3, h, w) float32 in [0, 1], RGB, contiguous.

        Returns:
            The raw output: (1, 4 + classes, anchors), or (1, 300, 6) of an end2end model. Valid until the next call.
        """

    def describe(self) -> dict[str, Any]:
        """Return what really runs: runtime, version, provider, threads, precision."""

    def close(self) -> None:
        """Free the model."""


class EngineBuilder(Protocol):
    """``build_engine`` of a backend that finishes its model on the device."""

    def __call__(
        self, folder: Path, spec: BundleSpec, tell: Callable[[str], object], *, force: bool = False
    ) -> dict[str, Any]:
        """Build the engine of a bundle's folder unless it is current; return its sidecar."""


class Backend(Protocol):
    """A module of this package.

    Two functions are optional, see :func:`engine_builder` and :func:`extra_files`.
    """

    NAME: str
    PRECISIONS: tuple[str, ...]

    def build(self, onnx: Path, out: Path, *, precision: str, imgsz: tuple[int, int]) -> Built:
        """Write the model files for an ONNX file into the folder ``out``."""

    def open(self, folder: Path, spec: BundleSpec, threads: int) -> Session:
        """Load the model files of a bundle."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the vendor packages; a missing one is a :class:`SlimError`."""


def backend(name: str) -> Backend:
    """Return the module of a runtime.

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
    """Return ``build_engine`` of a runtime that builds on the device, None for one that doesn't."""
    return cast("EngineBuilder | None", getattr(backend(name), "build_engine", None))


def extra_files(spec: BundleSpec) -> dict[str, str]:
    """Return the text files (name to content) that a runtime wants in its bundles, such as ``install.sh``."""
    make = getattr(backend(spec.runtime), "extra_files", None)
    return {} if make is None else dict(make(spec))


def require_precision(module_name: str, precision: str, known: tuple[str, ...]) -> None:
    """Raise when a backend can't build a precision."""
    if precision not in known:
        raise SlimError(
            f"{module_name} bundles are {' or '.join(known)}, not {precision}.",
            remedy=f"Ask for precision {known[0]}, or another runtime.",
        )
