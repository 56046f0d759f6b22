"""Accuracy, size and speed of every bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolo_slim.build_key import BuildKey
from yolo_slim.bundle import BundleSpec
from yolo_slim.config.run import ValidateConfig
from yolo_slim.devices.answers import Bench
from yolo_slim.devices.base import Placed
from yolo_slim.measuring.accuracy import Accuracy
from yolo_slim.measuring.networks import Networks, Setup
from yolo_slim.measuring.rounds import time_in_rounds
from yolo_slim.measuring.timer import Timer


@dataclass(frozen=True, kw_only=True)
class MeasuredBuild:
    """One bundle with its figures."""

    key: BuildKey
    accuracy: Accuracy
    size_mb: float
    """Size of its model files, megabytes (10^6 bytes)."""
    on_device: bool
    """The device ran it; otherwise the accuracy is its graph's, and there is no timing."""
    bench: Bench | None


def measure_builds(
    networks: Networks,
    accuracies: Mapping[BuildKey, Accuracy],
    placed: Mapping[BuildKey, Placed],
    config: ValidateConfig,
    setup: Setup,
) -> list[MeasuredBuild]:
    """Time the bundles on the device in rounds in which each has its turn; the profile's first choice comes first."""
    rank = {build: place for place, build in enumerate(setup.profile.builds)}
    order = sorted(networks.bundles, key=lambda key: (rank.get(key.build, len(rank)), str(key)))
    timer = Timer.of(config, setup.device, setup.profile, placed, setup.images.folder)
    timer.breakdown, timer.tell = config.breakdown, setup.progress.say
    setup.progress.say(f"validate: timing {len(placed)} bundles in {config.rounds} rounds")
    timings = time_in_rounds(
        [key for key in order if key in placed],
        config.rounds,
        timer,
        lambda done, total: setup.progress.step("validate: time the bundles in rounds", done, total),
    )
    return [
        MeasuredBuild(
            key=key,
            accuracy=accuracies[key],
            size_mb=_size_mb(networks.specs[key]),
            on_device=key in placed,
            bench=timings.get(key),
        )
        for key in order
    ]


def _size_mb(spec: BundleSpec) -> float:
    """Size of a bundle's model files, megabytes."""
    total: float = sum(spec.files[file]["size_bytes"] for file in spec.model.values()) / 1e6
    return total
