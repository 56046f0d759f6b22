"""Inference time on a device that isn't at hand, estimated from published rows. It is not a measurement.

A device's rows of one runtime and precision are fitted by ``latency = fixed + MACs / rate``; the fit gives the latency
of any network. docs/benchmarks/estimate.md has its error on rows that the fit didn't see. No gate reads an estimate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from yolo_slim.build_key import BuildName, Model
from yolo_slim.config.profile import Profile
from yolo_slim.config.record import BuildNameText, Record
from yolo_slim.files import read_json
from yolo_slim.measuring import published
from yolo_slim.measuring.published import PublishedDevice, PublishedRow

ERRORS = published.FOLDER / "errors.json"
"""What `python -m scripts.bench_estimate --write` found: runtime to step to factor."""
LEAST_NETWORKS = 2
"""Networks of different size that a fit needs."""
ON_GPU = ("tensorrt",)
"""Runtimes whose fixed part is the cost of starting kernels, which a smaller image doesn't lower."""


class EstimateRow(Record):
    """One published figure that an estimate is made from."""

    network: str
    """The network that was measured."""
    imgsz: int
    """Its input side in pixels."""
    infer_ms: float
    """Its published latency."""
    source: str
    """Who published it: project, page, version, commit and date."""


class Estimate(Record):
    """How fast a build may be on a device that isn't at hand. It isn't measured, and no gate reads it."""

    model: Model | None
    """``control`` or ``slim``; null: a network by itself, which isn't part of a run."""
    build: BuildNameText
    """The build."""
    device: str
    """The device that the rows are of."""
    imgsz: int
    """Input side in pixels."""
    infer_ms: float
    """Estimated latency of inference alone, without pre- and post-processing."""
    lowest_ms: float
    """Lower end of the band that contained nine of ten held-out rows."""
    highest_ms: float
    """Upper end of it."""
    rows: tuple[EstimateRow, ...]
    """The published figures."""

    @property
    def name(self) -> str:
        """The build as results name it, such as ``slim/ncnn-fp16``; that of a network by itself as ``ncnn-fp16``."""
        return f"{self.model}/{self.build}" if self.model else str(self.build)

    @property
    def infer_fps(self) -> float:
        """Images per second, inference alone."""
        return 1000 / self.infer_ms

    @property
    def dates(self) -> str:
        """When the rows were published: the first and the last year and month."""
        found = sorted({row.source.rpartition(", ")[2][:7] for row in self.rows})
        return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


@dataclass(frozen=True, kw_only=True)
class Network:
    """What an estimate must know of a network."""

    macs: int
    """Multiply-accumulates of one image at ``imgsz`` through the fused network."""
    imgsz: int
    """Input side, pixels."""
    is_pruned: bool
    """Whether its widths are no stock network's, which makes the band wider."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How much faster a network is than another one, measured with the same runtime on this workstation."""

    macs: int
    """Multiply-accumulates of the slower one."""
    ratio: float
    """Its latency divided by that of the network in question."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """``latency = fixed + MACs / rate`` for one device, runtime and precision."""

    fixed_ms: float
    """At 640 pixels, whatever the width of the layers."""
    ms_per_gmac: float
    """For 10^9 multiply-accumulates."""
    on_gpu: bool
    """Whether the fixed part stays the same for a smaller image; otherwise it follows the number of pixels."""

    def infer_ms(self, macs: float, imgsz: int) -> float:
        """Latency of one image."""
        pixels = 1.0 if self.on_gpu else (imgsz / published.SIDE_OF_MACS) ** 2
        return self.fixed_ms * pixels + self.ms_per_gmac * macs / 1e9


def fit(rows: Sequence[PublishedRow]) -> Cost | None:
    """Fit the two numbers so that the sum of squared relative errors is smallest; None: too few networks."""
    if len({row.network for row in rows}) < LEAST_NETWORKS:
        return None
    on_gpu = rows[0].build.runtime in ON_GPU
    ms = np.array([row.infer_ms for row in rows])
    pixels = np.array([1.0 if on_gpu else (row.imgsz / published.SIDE_OF_MACS) ** 2 for row in rows])
    gmacs = np.array([row.macs / 1e9 for row in rows])
    # Divided by the latency, every row's error is relative to it.
    parts = np.stack([pixels / ms, gmacs / ms], axis=1)
    fixed, rate = np.linalg.lstsq(parts, np.ones(len(ms)), rcond=None)[0]
    if fixed < 0:
        fixed, rate = 0.0, parts[:, 1].sum() / (parts[:, 1] ** 2).sum()
    return Cost(fixed_ms=float(fixed), ms_per_gmac=float(rate), on_gpu=on_gpu)


def estimate(
    profile: Profile,
    build: BuildName,
    network: Network,
    compared: Compared | None = None,
    *,
    model: Model | None = None,
) -> Estimate | None:
    """Estimate the latency of a build on a profile's device; None: :func:`why_none` says why.

    If the measured ratio and the MACs disagree, the ratio widens the band. It doesn't move the estimate: on held-out
    rows it wasn't better (docs/benchmarks/estimate.md).

    Args:
        profile: the device.
        build: the build.
        network: its size.
        compared: how it compares with a network of another size.
        model: which of a run's two networks it is.
    """
    device, rows = device_of(profile), rows_of(profile, build)
    cost = fit(rows)
    if device is None or cost is None or why_none(profile, build):
        return None
    infer_ms = cost.infer_ms(network.macs, network.imgsz)
    factor = error_factor(build.runtime, rows, network)
    others = [cost.infer_ms(compared.macs, network.imgsz) / compared.ratio] if compared else []
    return Estimate(
        model=model,
        build=build,
        device=device.label,
        imgsz=network.imgsz,
        infer_ms=infer_ms,
        lowest_ms=min([infer_ms / factor, *others]),
        highest_ms=max([infer_ms * factor, *others]),
        rows=tuple(
            EstimateRow(network=row.network, imgsz=row.imgsz, infer_ms=row.infer_ms, source=str(row.source))
            for row in rows
        ),
    )


def why_none(profile: Profile, build: BuildName) -> str:
    """Say why a build can't be estimated; empty: it can."""
    device = device_of(profile)
    if device is None:
        return f"nothing was published for the device of {profile.name}"
    if device.threads and device.threads != profile.threads:
        return f"the rows of the {device.label} are of {device.threads} threads, {profile.name} has {profile.threads}"
    if device.power_modes and profile.power_mode not in device.power_modes:
        return f"the rows of the {device.label} are of power mode {' or '.join(device.power_modes)}"
    if fit(rows_of(profile, build)) is None:
        return f"too few rows were published of {build} on a {device.label}"
    return ""


def device_of(profile: Profile) -> PublishedDevice | None:
    """The one device with rows that a profile is made for; None: none, or it may be several."""
    pattern = profile.device_model
    found = [device for device in published.devices() if pattern and re.search(pattern, device.model)]
    return found[0] if len(found) == 1 else None


def rows_of(profile: Profile, build: BuildName) -> tuple[PublishedRow, ...]:
    """The rows of a build on a profile's device."""
    device = device_of(profile)
    return tuple(row for row in published.rows() if device and row.device == device.name and row.build == build)


def error_factor(runtime: str, rows: Iterable[PublishedRow], network: Network) -> float:
    """How far the latency of nine of ten held-out rows was from their estimate, as a factor.

    Each step from the rows to the network has its own error: another network, another input side, pruned widths. The
    one of the side was measured on halved sides at most; every further half adds as much again.
    """
    errors = {step: math.log(factor) for step, factor in _errors()[runtime].items()}
    halves = min(abs(math.log2(network.imgsz / row.imgsz)) for row in rows)
    imgsz = errors["imgsz"] * max(halves, 1.0) if halves else 0.0
    return math.exp(math.hypot(errors["network"], imgsz, errors["pruned"] * network.is_pruned))


@cache
def _errors() -> dict[str, dict[str, float]]:
    """Runtime to step to the factor that nine of ten held-out rows kept."""
    found: dict[str, dict[str, float]] = read_json(ERRORS)["factors"]
    return found
