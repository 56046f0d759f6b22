"""What a change of the network is worth in milliseconds: both networks timed in turns in one process.

A shared machine drifts by more than one block gains. The difference is therefore taken inside each turn, in which both
networks run right after one another, and the median of the turns' differences is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.backends import Backend, Session, backend, engine_builder
from yolo_slim.bundle import BundleSpec
from yolo_slim.errors import SlimError
from yolo_slim.machine import read_state, throttle_reasons

WARMUP = 2
"""Frames of every turn that don't count: the other network has had the caches."""

Blob = NDArray[np.float32]
"""One input, (1, 3, h, w) float32."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Median milliseconds of two networks in every turn."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count: the machine was throttled."""

    @property
    def gains(self) -> NDArray[np.float64]:
        """Return what the second network gained in every turn, milliseconds, shape (rounds,)."""
        return np.subtract(self.before, self.after)

    def to_json(self) -> dict[str, Any]:
        """Return the median, smallest and largest gain, and the turns behind them."""
        gains = self.gains
        return {
            "ms_gain": float(np.median(gains)),
            "ms_gain_lowest": float(gains.min()),
            "ms_gain_highest": float(gains.max()),
            "ms_control": float(np.median(self.before)),
            "ms_cut": float(np.median(self.after)),
            "round_ms": {"control": list(self.before), "cut": list(self.after)},
            "invalid_reasons": list(self.invalid_reasons),
        }


def precision_of(runtime: str) -> str:
    """Return the precision that networks are timed in: fp32, or what a runtime has in its place.

    Raises:
        SlimError: an unknown runtime, or one whose engines only the device can build.
    """
    if engine_builder(runtime):
        raise SlimError(
            f"{runtime} builds its engines on the device, so blocks can't be timed in it here.",
            remedy="Choose onnxruntime or ncnn.",
        )
    known = backend(runtime).PRECISIONS
    return "fp32" if "fp32" in known else known[0]


def open_session(onnx: Path, folder: Path, about: dict[str, Any], *, runtime: str, threads: int) -> Session:
    """Return a session of an exported graph, as a bundle of that runtime has it.

    Args:
        onnx: the graph.
        folder: existing folder for the runtime's files, which must outlive the session.
        about: what the graph says of itself, see :func:`yolo_slim.stages.export.layout_of`.
        runtime: one of :data:`yolo_slim.backends.BACKENDS`.
        threads: inference threads.
    """
    module: Backend = backend(runtime)
    precision = precision_of(runtime)
    built = module.build(onnx, folder, precision=precision, imgsz=about["imgsz"])
    spec = BundleSpec(
        name=onnx.stem, target="", runtime=runtime, precision=precision, threads=threads, model=built.model,
        input_name=built.input_name, output_name=built.output_name, files={}, provenance={}, **about,
    )  # fmt: skip
    return module.open(folder, spec, threads)


def time_paired(before: Session, after: Session, blobs: Sequence[Blob], *, rounds: int, frames: int) -> Paired:
    """Time the inference of two networks in turns; every other turn begins with the second one.

    Args:
        before: the network that the other is compared with.
        after: the other.
        blobs: inputs, taken in turn; at least one.
        rounds: turns.
        frames: timed frames of a network in a turn.
    """
    start = read_state()
    taken: dict[int, list[float]] = {0: [], 1: []}
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            taken[which].append(_turn((before, after)[which], blobs, frames))
    reasons = throttle_reasons(start, read_state())
    return Paired(before=tuple(taken[0]), after=tuple(taken[1]), invalid_reasons=tuple(reasons))


def _turn(session: Session, blobs: Sequence[Blob], frames: int) -> float:
    """Return the median inference time of one turn, milliseconds."""
    samples = []
    for index in range(WARMUP + frames):
        blob = blobs[index % len(blobs)]
        start = time.perf_counter_ns()
        session.infer(blob)
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(samples[WARMUP:]))
