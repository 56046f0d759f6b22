"""What a change of the network is worth in milliseconds: both networks timed in the same rounds, in one process.

A shared machine drifts by more than one block gains. The difference is therefore taken inside each round, in which both
networks run right after one another, and the median of the rounds' differences is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.backends import Session, backend, engine_builder
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import cores, heat_reasons, read_state, throttle_reasons
from yolo_slim.runtime import answer_values
from yolo_slim.runtime.letterbox import letterbox
from yolo_slim.runtime.load import busy_reasons, load_since, start, waiting_seconds

WARMUP = 2
"""First frames of a network in a round, which don't count: the other network has had the caches."""
SETTLE_S = 0.02
"""Seconds before a network's part of a round: the threads of the other session wait busily for a few milliseconds after
its last frame, and would take a core from this one."""
ROUNDS_A_LOAD = 3
"""Rounds until both networks are loaded again. Where a network lies in memory makes it faster or slower: in NCNN twelve
timings of one pair were up to 3.2 % apart with one load, and up to 1.8 % with one for every three rounds, on an AMD
EPYC (docs/benchmarks/latency.md)."""
IMAGES = 8
"""Most images that two bundles are timed on."""

Blob = NDArray[np.float32]
"""One input, (1, 3, h, w) float32."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Median milliseconds of two networks in every round."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    threads: int
    """Inference threads of both."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count: the machine was throttled or busy."""

    @property
    def gains(self) -> NDArray[np.float64]:
        """What the second network gained in every round, milliseconds, shape (rounds,)."""
        return np.subtract(self.before, self.after)

    @property
    def ms_gain(self) -> float:
        """Median gain of the rounds."""
        return float(np.median(self.gains))

    @property
    def ratio(self) -> float:
        """What the second network takes in units of the first: median of the rounds."""
        return float(np.median(np.divide(self.after, self.before)))

    @property
    def ms_before(self) -> float:
        """Median of the first network's rounds."""
        return float(np.median(self.before))

    @property
    def ms_after(self) -> float:
        """Median of the second network's rounds."""
        return float(np.median(self.after))

    def to_json(self) -> dict[str, object]:
        """The median, smallest and largest gain, and the rounds behind them."""
        return {
            # The keys of a row of block_costs.json, where the control is timed against a cut.
            "ms_gain": self.ms_gain,
            "ms_gain_lowest": float(self.gains.min()),
            "ms_gain_highest": float(self.gains.max()),
            "ms_control": self.ms_before,
            "ms_cut": self.ms_after,
            "round_ms": {"control": list(self.before), "cut": list(self.after)},
            "threads": self.threads,
            "invalid_reasons": list(self.invalid_reasons),
        }

    @classmethod
    def from_json(cls, value: Any) -> Paired:
        """Read the rounds back; everything else follows from them.

        Raises:
            SlimError: another layout.
        """
        try:
            before, after = (answer_values.durations(value["round_ms"][key]) for key in ("control", "cut"))
            if len(before) != len(after):
                raise ValueError(f"{len(before)} rounds of one network, {len(after)} of the other")
            return cls(
                before=before,
                after=after,
                threads=answer_values.threads(value["threads"]),
                invalid_reasons=answer_values.reasons(value["invalid_reasons"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SlimError(
                f"The device's paired timing is damaged: {error}.",
                remedy="Use the same yolo_slim on the device and here.",
            ) from None


def precision_of(runtime: str) -> str:
    """The precision that networks are timed in: fp32, or what a runtime has in its place.

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


def pair_bundles(
    before: Bundle,
    after: Bundle,
    images: Iterable[NDArray[np.uint8]],
    *,
    rounds: int,
    frames: int,
    max_celsius: float | None = None,
) -> Paired:
    """Time the inference of two bundles as :func:`time_paired`, on the first :data:`IMAGES` images.

    Raises:
        SlimError: inputs or threads that differ, no image, or a bundle that can't be loaded.
    """
    if before.spec.imgsz != after.spec.imgsz:
        raise SlimError(
            f"The two bundles have inputs of different size: {before.spec.imgsz} and {after.spec.imgsz}.",
            remedy="Give two bundles that were exported with the same imgsz.",
        )
    if before.spec.threads != after.spec.threads:
        raise SlimError(
            f"The two bundles run with different numbers of threads: {before.spec.threads} and {after.spec.threads}.",
            remedy="Give two bundles that were built for the same target.",
        )
    blobs = [letterbox(image, before.spec.imgsz)[0] for image in islice(images, IMAGES)]
    if not blobs:
        raise SlimError("Nothing to time: no image was given.", remedy="Give at least one image.")
    first, second = partial(_opened, before), partial(_opened, after)
    return time_paired(first, second, blobs, rounds=rounds, frames=frames, max_celsius=max_celsius)


def _opened(bundle: Bundle) -> Session:
    """Open a bundle with its own number of threads, or as many as there are cores."""
    spec = bundle.spec
    return backend(spec.runtime).open(bundle.folder, spec, min(spec.threads, cores()))


def time_paired(
    before: Callable[[], Session],
    after: Callable[[], Session],
    blobs: Sequence[Blob],
    *,
    rounds: int,
    frames: int,
    max_celsius: float | None = None,
) -> Paired:
    """Time the inference of two networks in the same rounds; every other round begins with the second one.

    Args:
        before: loads the network that the other is compared with; called every :data:`ROUNDS_A_LOAD` rounds.
        after: loads the other.
        blobs: inputs, used one after the other; at least one.
        rounds: how often both are timed.
        frames: timed frames of one network in a round.
        max_celsius: a timing that starts or ends hotter doesn't count; None: no limit.
    """
    state = read_state()
    # No reference kernel: a machine that slows down in between slows both networks of a round.
    begin = start(with_reference=False)
    parts: tuple[list[_Part], list[_Part]] = ([], [])
    threads = 1
    for loaded_at in range(0, rounds, ROUNDS_A_LOAD):
        with closing(before()) as first, closing(after()) as second:
            threads = second.describe().threads
            timed = ((first, parts[0]), (second, parts[1]))
            for index in range(loaded_at, min(loaded_at + ROUNDS_A_LOAD, rounds)):
                # If one network always ran second, a drift inside the rounds would count as its gain or loss.
                for session, found in timed if index % 2 == 0 else reversed(timed):
                    found.append(_run_part(session, blobs, frames))
    load = replace(load_since(begin, threads), waiting_share=_waiting_share([*parts[0], *parts[1]], threads))
    end = read_state()
    reasons = busy_reasons(load) + throttle_reasons(state, end) + heat_reasons(state, end, max_celsius)
    return Paired(
        before=tuple(part.median_ms for part in parts[0]),
        after=tuple(part.median_ms for part in parts[1]),
        threads=threads,
        invalid_reasons=tuple(reasons),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One network in one round, its timed frames alone."""

    median_ms: float
    seconds: float
    waiting_s: float | None
    """Seconds that the process's threads waited for a core; None: the machine doesn't say."""


def _run_part(session: Session, blobs: Sequence[Blob], frames: int) -> _Part:
    """Run one network for its part of a round."""
    time.sleep(SETTLE_S)
    for index in range(WARMUP):
        session.infer(blobs[index % len(blobs)])
    samples, waited, begin = [], waiting_seconds(), time.perf_counter()
    for index in range(WARMUP, WARMUP + frames):
        blob = blobs[index % len(blobs)]
        start = time.perf_counter_ns()
        session.infer(blob)
        samples.append((time.perf_counter_ns() - start) / 1e6)
    seconds, waits = time.perf_counter() - begin, waiting_seconds()
    waiting_s = None if waited is None or waits is None else max(0.0, waits - waited)
    return _Part(median_ms=float(np.median(samples)), seconds=seconds, waiting_s=waiting_s)


def _waiting_share(parts: Sequence[_Part], threads: int) -> float | None:
    """The share of the timed frames that threads waited for a core; None: the machine doesn't say.

    While a session rests and warms up, the scheduler takes a moment to spread its threads over the cores. No frame that
    counts waits for that.
    """
    waits = [part.waiting_s for part in parts if part.waiting_s is not None]
    return sum(waits) / sum(part.seconds for part in parts) / threads if len(waits) == len(parts) else None
