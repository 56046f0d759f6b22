"""What can be said about a TensorRT build before there is a Jetson: blockers found, the graph built ahead of time.

Known blockers are checked for every JetPack of the profile; TensorRT-RTX parses and builds the graph where it is
installed. What only the device can show is listed as ``unproven``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from yolo_slim.config.profile import Profile
from yolo_slim.export.preflight import rtx as tensorrt_rtx
from yolo_slim.export.preflight.check import Check, read_graph
from yolo_slim.export.preflight.checks import CHECKS
from yolo_slim.files import JsonObject

UNPROVEN = {
    "tactics": "which kernels TensorRT finds on this GPU, and whether it finds one for every layer",
    "latency": "how long a frame takes",
    "memory": "whether building and running fit into the memory that CPU and GPU share",
    "engine accuracy": "whether the engine detects what the graph detects: the device's self-check and mAP show it",
}
"""What no check can answer without the device."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """All answers for one graph and one target."""

    onnx: str
    """File name of the graph."""
    target: str
    """Device profile."""
    precision: str
    """Precision of the engine."""
    layout: str
    """Output layout."""
    checks: tuple[Check, ...]
    """In the order in which they were made."""

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def is_passed(self) -> bool:
        """Whether nothing is known to prevent a build; ``unproven`` and ``skipped`` don't count."""
        return not self.failures

    def to_json(self) -> JsonObject:
        """As the stage's manifest and the report have it."""
        return {**asdict(self), "passed": self.is_passed}


def preflight(onnx: Path, profile: Profile, precision: str, layout: str, *, rtx: bool = True) -> Preflight:
    """Check a graph against every JetPack of a profile, and build it with TensorRT-RTX where that is installed.

    Args:
        onnx: the graph that the bundle would contain.
        profile: target device.
        precision: ``fp32``, ``fp16`` or ``int8``.
        layout: ``one2many`` or ``end2end``.
        rtx: False leaves the ahead-of-time build out.

    Raises:
        SlimError: the file isn't readable ONNX.
    """
    graph = read_graph(onnx, profile, precision, layout)
    checks = [Check(name=name, **check(graph)._asdict()) for name, check in CHECKS]
    checks.append(
        tensorrt_rtx.build_ahead(onnx, precision)
        if rtx
        else Check(name=tensorrt_rtx.NAME, status="skipped", detail="not asked for")
    )
    checks += [Check(name=name, status="unproven", detail=detail) for name, detail in UNPROVEN.items()]
    return Preflight(onnx=onnx.name, target=profile.name, precision=precision, layout=layout, checks=tuple(checks))
