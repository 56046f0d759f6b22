"""Estimates for the builds of a result whose device isn't at hand. Nothing is judged by them."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.build_key import BuildKey
from yolo_slim.config.profile import Profile
from yolo_slim.measuring.estimate import Compared, Estimate, Network, estimate
from yolo_slim.verdict.result import Build, Sizes


def estimate_builds(profile: Profile, builds: Sequence[Build], size: Sizes, imgsz: int) -> tuple[Estimate, ...]:
    """Estimate every build that published rows allow.

    Args:
        profile: the target.
        builds: the builds, with the timings of this workstation where there are some.
        size: the control's and the slim network's, at ``imgsz``.
        imgsz: input side in pixels.
    """
    found = []
    for build in builds:
        macs = size.slim.macs if build.key.is_slim else size.control.macs
        network = Network(macs=macs, imgsz=imgsz, is_pruned=build.key.is_slim)
        compared = _compared(build, builds, size)
        found.append(estimate(profile, build.key.build, network, compared, model=build.key.model))
    return tuple(one for one in found if one)


def _compared(build: Build, builds: Sequence[Build], size: Sizes) -> Compared | None:
    """How much faster than its control a slim build infers here; None: not both were timed validly."""
    control = next((one for one in builds if one.key == BuildKey("control", build.key.build)), None)
    before, after = control.valid_bench if control else None, build.valid_bench
    if not build.key.is_slim or before is None or after is None:
        return None
    return Compared(macs=size.control.macs, ratio=before.stages.infer.p50_ms / after.stages.infer.p50_ms)
