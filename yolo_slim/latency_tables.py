"""The latency tables of a run whose budget is in milliseconds: where they are kept, and when they can't be measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.config.run import LatencyConfig
from yolo_slim.devices.base import Device, identity
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import fitted_name, sha256_json
from yolo_slim.measuring.latency import LatencyOutputs, LatencyTable, table_name
from yolo_slim.preparation import Run
from yolo_slim.stages import latency
from yolo_slim.stages.context import Context
from yolo_slim.workspace.folder import stage_claimed
from yolo_slim.workspace.job import content

MOST_DEVICE_NAME = 40
"""Characters of a device's name in the name of a folder."""


def tables_folder(this: Run, runs: Path) -> Path:
    """Where the tables of a model, target, input side and device are: beside the runs, which share them."""
    sha256, device = content(this.model), _device_name(this.context.device)
    activation = this.config.recover.activation
    exchanged = "" if activation == "none" else f"-{activation}"
    after = f"-{sha256[:8]}-{this.context.profile.name}-{this.context.imgsz}-{device}{exchanged}-latency"
    return runs / fitted_name(this.model.stem, after=after)


def _device_name(device: Device) -> str:
    """A device in the name of a folder: how it is called, and a digest, because two may be written alike."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", device.name)[:MOST_DEVICE_NAME]
    return f"{readable}-{sha256_json(identity(device))[:8]}"


def measured(this: Run, folder: Path, kept_float: tuple[str, ...] | None = None) -> LatencyOutputs:
    """Measure the tables on the device, or use those that are up to date.

    Args:
        this: the run, or the one command.
        folder: of the tables.
        kept_float: convolutions that stay float in an int8 build; None: those of the table that is there, if any.

    Raises:
        SlimError: the device isn't the target, or the stage's own errors.
    """
    require_device(this)
    config = this.config
    builds = builds_of(config.latency, this.context)
    inputs = latency.LatencyInputs(
        model=this.model, pruning=config.prune, activation=config.recover.activation, quantize=config.quantize,
        kept_float=_kept_before(folder, builds) if kept_float is None else kept_float,
    )  # fmt: skip
    with stage_claimed(folder, "latency", model_sha256=content(this.model)):
        return latency.run(inputs, this.config.latency, builds, folder, this.context)


def _kept_before(folder: Path, builds: Sequence[BuildName]) -> tuple[str, ...]:
    """The float layers of the int8 table in a folder: a command alone doesn't measure a run's table again."""
    for path in (folder / table_name(build) for build in builds if build.precision == "int8"):
        try:
            return LatencyTable.load(path).kept_float
        except (SlimError, OSError):
            continue  # none yet, or one that the stage measures again
    return ()


def for_budget(this: Run, runs: Path, kept_float: tuple[str, ...] | None = None) -> LatencyOutputs | None:
    """The tables that the budget needs; None: it isn't in milliseconds.

    Args:
        this: the run.
        runs: the folder of all runs.
        kept_float: convolutions that stay float in an int8 build; None: as :func:`measured`.
    """
    if this.config.prune.frame_ms is None:
        return None
    impossible = latency.impossible_builds(this.context)
    for build, why in latency.without_table(this.context, this.config.latency.runtime).items():
        said = f"{build} isn't built: {why}" if build in impossible else (
            f"no cut is made for {build}: {why}. The network that is cut for another build is also built in {build}, "
            "and timed at the end"
        )  # fmt: skip
        this.context.progress.say(f"latency: {said}")
    return measured(this, tables_folder(this, runs), kept_float)


def require_measurable(this: Run) -> None:
    """Refuse a budget in milliseconds that can't be measured, before any work."""
    if (budget := this.config.prune.frame_ms) is None:
        require_no_name(this.config.latency)
        return
    require_device(this)
    builds_of(this.config.latency, this.context)
    gate = this.context.profile.budget.min_fps
    if gate is not None and gate > 1000 / budget * (1 + 1e-9):
        this.context.progress.say(
            f"latency: WARNING: {1000 / budget:.4g} FPS are asked for, but {this.context.profile.name} has min_fps "
            f"{gate:g}: a cut that only reaches the budget fails that gate"
        )


def require_no_name(config: LatencyConfig) -> None:
    """Refuse to ignore the name of a build."""
    if config.runtime is not None:
        raise SlimError(
            f"latency.runtime ({config.runtime}) names the build of a cut to a frame rate, but none is asked for.",
            remedy="Give --target-fps or --latency-ms, or leave latency.runtime out.",
            topic="the-frame-rate-cant-be-timed",
        )


def reached_unpruned(this: Run, tables: LatencyOutputs) -> list[str]:
    """The builds in which the unpruned network reaches the budget, with their FPS, for people."""
    budget = this.config.prune.frame_ms
    if budget is None:
        return []
    loaded = [LatencyTable.load(path) for path in tables.tables.values()]
    met = [table for table in loaded if table.control_frame_ms <= budget]
    return [f"{1000 / table.control_frame_ms:.1f} FPS in {table.build}{table.exchanged}" for table in met]


def require_device(this: Run) -> None:
    """Refuse to measure another machine's milliseconds for a target that isn't there."""
    device, profile = this.context.device, this.context.profile
    if device.name in PROCESSORS and not this.config.device.any_device:
        raise SlimError(
            f"{device.name} is emulated: it proves what a network computes, never how long that takes.",
            remedy="Name a real device with --host, or prune to MACs (--prune). To try the commands, --any-device "
            "measures the emulator's own speed.",
            topic="the-frame-rate-cant-be-timed",
        )
    if device.is_here and not device.is_target(profile):
        raise SlimError(
            f"{profile.name} isn't here, so nothing can be timed on it.",
            remedy="Name the device with --host, or choose this machine with --target host. Without a device `run` and "
            "`prune` can cut to MACs: --prune.",
            topic="the-frame-rate-cant-be-timed",
        )


def builds_of(config: LatencyConfig, context: Context) -> list[BuildName]:
    """The builds to measure: the one that the settings name, else all that can have a table."""
    found = latency.timed_builds(context, config.runtime)
    if config.runtime is None:
        return found
    chosen = [build for build in found if config.runtime in (str(build), build.runtime)]
    if not chosen:
        names = [str(build) for build in latency.nameable_builds(context)]
        impossible = {str(build): why for build, why in latency.impossible_builds(context).items()}
        raise SlimError(
            f"latency.runtime: got {config.runtime!r}.{did_you_mean(config.runtime, names)}",
            culprits=[f"{config.runtime}: {impossible[config.runtime]}"] if config.runtime in impossible else [],
            remedy=f"{context.profile.name} has {', '.join(names)}.",
            topic="the-frame-rate-cant-be-timed",
        )
    return chosen
