"""The ``build`` command: what a bundle leaves to the device, such as TensorRT's engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yolo_slim.backends import engine_builder
from yolo_slim.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What was built here."""

    runtime: str
    """Runtime of the bundle."""
    built: dict[str, Any] | None
    """The engine's sidecar; None: this runtime has nothing to build."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value of everything."""
        return {"runtime": self.runtime, "built": self.built}


def build(bundle: Bundle, tell: Callable[[str], object], *, force: bool = False) -> BuildReport:
    """Build what the bundle needs on this machine; a current engine is kept unless ``force``.

    Raises:
        SlimError: the SDK or the device is missing, or the build fails.
    """
    builder = engine_builder(bundle.spec.runtime)
    built = None if builder is None else builder(bundle.folder, bundle.spec, tell, force=force)
    return BuildReport(runtime=bundle.spec.runtime, built=built)


def as_text(report: BuildReport) -> str:
    """Return the report for people."""
    if report.built is None:
        return f"{report.runtime} bundles need no build: the model files run as they are"
    made, built_for = report.built, report.built["built_for"]
    verb = "kept the current engine" if made["kept"] else f"built in {made['seconds']:.0f} s"
    return (
        f"{verb}: {made['size_bytes'] / 1e6:.1f} MB, {built_for['precision']}, TensorRT {built_for['tensorrt']}, "
        f"{built_for['device']} (SM {built_for['sm']}), timing cache {made['timing_cache']}"
    )
