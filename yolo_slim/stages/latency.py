"""best.pt -> latency tables: what the cuts of a network take on the device, one table for each build.

Every kind of convolution is timed alone over a grid of widths, where the runtime can do that. Then whole networks that
were cut in three ways. Nothing is trained and no channel is scored: time depends on widths alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim import bundle
from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import LatencyConfig, PruneConfig, QuantizeConfig
from yolo_slim.devices.base import identity
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.export.builds import expected_builds
from yolo_slim.files import JsonObject, flat, write_text
from yolo_slim.measuring.latency import LatencyOutputs, table_name
from yolo_slim.measuring.layer_graphs import times_layers, why_no_table
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

if TYPE_CHECKING:
    from yolo_slim.stages.latency_meter import LatencyMeter

READ_OF_PRUNE = ("protect", "round_to", "min_width", "min_share", "head_rate")
"""Settings of prune that decide which widths occur."""
PAGE = "latency.html"
REVISION = 10
"""Raised when equal inputs are measured otherwise."""
PACKAGES = ("torch", "ultralytics", "onnx", "onnxslim", "numpy", "opencv-python")
"""Packages that export; those of the runtimes decide too."""


@dataclass(frozen=True, kw_only=True)
class LatencyInputs:
    """What the stage reads."""

    model: Path
    """Trained detection checkpoint."""
    pruning: PruneConfig
    """What may be cut."""
    activation: str = "none"
    """``recover.activation``: what the recovered network will have is what is timed."""
    kept_float: tuple[str, ...] = ()
    """Convolutions that stay float in an int8 build."""
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    """What decides which convolutions these are."""


def impossible_builds(context: Context) -> dict[BuildName, str]:
    """Those of the target's builds that can't run the exported graph, with the reason."""
    return expected_builds(context.profile, "end2end" if context.end2end else "one2many").skipped


def without_table(context: Context, named: str | None = None) -> dict[BuildName, str]:
    """Those of the target's builds that no cut is made for, because they have no latency table, with the reason.

    Args:
        context: of the call.
        named: ``latency.runtime``, if any. An int8 build has a table only if it is named.
    """
    impossible = impossible_builds(context)
    reasons = {build: impossible.get(build) or why_no_table(build, named) for build in context.profile.builds}
    return {build: why for build, why in reasons.items() if why}


def nameable_builds(context: Context) -> list[BuildName]:
    """The builds that ``latency.runtime`` may name."""
    return [build for build in context.profile.builds if build not in without_table(context, str(build))]


def timed_builds(context: Context, named: str | None = None) -> list[BuildName]:
    """The builds of the target that can have a table: those in float, and the one that is named.

    Args:
        context: of the call.
        named: ``latency.runtime``, if any.

    Raises:
        SlimError: the target has none.
    """
    reasons = without_table(context, named)
    if found := [build for build in context.profile.builds if build not in reasons]:
        return found
    raise SlimError(
        f"No build of {context.profile.name} has a latency table.",
        culprits=[f"{build}: {why}" for build, why in reasons.items()],
        remedy="Name one with --set latency.runtime=BUILD, use a target that has a float build, or prune to MACs with "
        "--prune.",
        topic="the-frame-rate-cant-be-timed",
    )


def decided_by(profile: Profile, build: BuildName) -> JsonObject:
    """What of a target decides the milliseconds of a build, beside its threads.

    That is how its engine is built, and by how many channels layers are counted where they can't be timed.
    """
    counted = {} if times_layers(build) else {"channel_multiple": profile.channel_multiple}
    return {**flat(profile.engine_settings(build.runtime)), **counted}


def job_of(
    inputs: LatencyInputs, config: LatencyConfig, builds: Sequence[BuildName], folder: Path, context: Context
) -> Job:
    """Say what decides the result: the device, the runtimes' versions and the network."""
    profile, device = context.profile, context.device
    settings = {
        **config.model_dump(exclude={"runtime", "explore_epochs"}), "builds": [str(build) for build in builds],
        "imgsz": context.imgsz,
        "seed": context.seed, "end2end": context.end2end,
        "pruning": {key: getattr(inputs.pruning, key) for key in READ_OF_PRUNE},
        "target": profile.name, "threads": profile.threads, **identity(device), "cores": device.facts().cores,
    }  # fmt: skip
    if target := {str(build): found for build in builds if (found := decided_by(profile, build))}:
        settings["target_settings"] = target
    if inputs.activation != "none":
        settings["activation"] = inputs.activation
    runtimes = [package for name in sorted({build.runtime for build in builds}) for package in bundle.PACKAGES[name]]
    # The int8 graphs of every runtime are made with ONNX Runtime's tools.
    is_int8 = any(build.precision == "int8" for build in builds)
    makers = ("onnxruntime",) if is_int8 else ()
    there = {} if device.is_here else {f"{name} of the device": device.facts().runtimes.get(name) for name in runtimes}
    if is_int8:
        settings["quantize"] = inputs.quantize.model_dump()
        # Found by measuring, so that an update may change it: no finished cut goes for that.
        there = {**there, "layers that stay float": ", ".join(inputs.kept_float) or "none"}
    return Job(
        stage="latency", folder=folder, settings=settings, revision=REVISION,
        packages=tuple(dict.fromkeys((*PACKAGES, *makers, *runtimes))), elsewhere=there,
        inputs={"model": content(inputs.model), "data": context.dataset.digest},
    )  # fmt: skip


def run(
    inputs: LatencyInputs, config: LatencyConfig, builds: Sequence[BuildName], folder: Path, context: Context
) -> LatencyOutputs:
    """Measure the tables of some builds.

    Args:
        inputs: the checkpoint, and what may be cut.
        config: how it is measured.
        builds: runtimes and precisions.
        folder: folder of the tables.
        context: images to time on, target (whose threads are used), device, input side and seed.

    Raises:
        SlimError: an unusable checkpoint, or layers that no table has.
    """
    job = job_of(inputs, config, builds, folder, context)

    def check() -> LatencyMeter:
        from yolo_slim.stages.latency_meter import latency_meter

        return latency_meter(job, inputs, config, builds, context)

    run_once(job, _made, context, check=check)
    tables = {build: folder / table_name(build) for build in builds}
    return LatencyOutputs(tables=tables, page=folder / PAGE, request=job.request)


def _made(meter: LatencyMeter) -> Made:
    """Measure, and write the tables."""
    from yolo_slim.reporting.latency import render
    from yolo_slim.stages.network_meter import may_count_later

    folder = meter.job.folder
    with os_errors_explained(folder):
        tables = meter.measure()
        for table in tables:
            table.save(folder / table_name(table.build))
        write_text(folder / PAGE, render(tables))
    # What a throttled or busy machine measured is shown, but the next call measures it again.
    is_lasting = not any(map(may_count_later, tables))
    return Made(outputs=[*(folder / table_name(table.build) for table in tables), folder / PAGE], is_lasting=is_lasting)
