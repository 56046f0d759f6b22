"""How builds are named: ``ncnn-fp16`` is a runtime at a precision, ``slim/ncnn-fp16`` that build of the slim model.

This is the only place that knows the written form. Everything else has the parts as attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from yolo_slim.bundle import PRECISIONS, RUNTIMES, BundleSpec
from yolo_slim.errors import SlimError, did_you_mean

Model = Literal["control", "slim"]
CONTROL, SLIM = "control", "slim"
EXAMPLE = "Write a runtime and a precision, such as ncnn-fp16."


@dataclass(frozen=True, order=True)
class BuildName:
    """One runtime at one precision."""

    runtime: str
    """One of :data:`yolo_slim.bundle.RUNTIMES`."""
    precision: str
    """One of :data:`yolo_slim.bundle.PRECISIONS`."""

    def __str__(self) -> str:
        """Write it as folders and results name it."""
        return f"{self.runtime}-{self.precision}"

    @classmethod
    def parse(cls, text: str) -> BuildName:
        """Read the written form.

        Raises:
            SlimError: an unknown runtime or precision.
        """
        runtime, _, precision = text.partition("-")
        problems = [
            f"{text}: {what} {found!r} is unknown.{did_you_mean(found, known)}"
            for what, found, known in (("runtime", runtime, RUNTIMES), ("precision", precision, PRECISIONS))
            if found not in known
        ]
        if problems:
            raise SlimError(f"'{text}' names no build.", culprits=problems, remedy=EXAMPLE)
        return cls(runtime, precision)

    @classmethod
    def of(cls, spec: BundleSpec) -> BuildName:
        """Name the build that a bundle contains."""
        return cls(spec.runtime, spec.precision)


@dataclass(frozen=True, order=True)
class BuildKey:
    """One build of the control or of the slim model."""

    model: Model
    """``control`` or ``slim``."""
    build: BuildName
    """Its runtime and precision."""

    def __str__(self) -> str:
        """Write it as results name it."""
        return f"{self.model}/{self.build}"

    @property
    def is_slim(self) -> bool:
        """Whether it is a build of the slim model."""
        return self.model == SLIM

    @classmethod
    def parse(cls, text: str) -> BuildKey:
        """Read the written form.

        Raises:
            SlimError: an unknown model, runtime or precision.
        """
        model, _, build = text.partition("/")
        if model not in (CONTROL, SLIM):
            raise SlimError(
                f"'{text}' names no build of a model.", remedy="Write control/ or slim/ first, such as slim/ncnn-fp16."
            )
        return cls(cast(Model, model), BuildName.parse(build))
