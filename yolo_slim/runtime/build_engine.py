"""The ``build`` command: the engine that only the device can build (TensorRT)."""

from __future__ import annotations

from dataclasses import dataclass

from yolo_slim.backends import EngineReport, OnStep, engine_builder
from yolo_slim.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What was built here."""

    runtime: str
    """Runtime of the bundle."""
    engine: EngineReport | None
    """The engine; None: this runtime needs none."""

    def to_json(self) -> dict[str, object]:
        """The answer of ``build --json``."""
        return {"runtime": self.runtime, "built": None if self.engine is None else self.engine.to_json()}

    def as_text(self) -> str:
        """One line for people."""
        if self.engine is None:
            return f"{self.runtime} bundles need no engine: the model files run as they are"
        return self.engine.summary()


def build_engine(bundle: Bundle, on_step: OnStep, *, force: bool = False) -> BuildReport:
    """Build the bundle's engine on this machine; an engine that is up to date stays unless ``force``.

    Raises:
        SlimError: the SDK or the device is missing, or the build fails.
    """
    builder = engine_builder(bundle.spec.runtime)
    engine = None if builder is None else builder(bundle.folder, bundle.spec, on_step, force=force)
    return BuildReport(runtime=bundle.spec.runtime, engine=engine)
