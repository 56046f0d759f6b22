"""A run before its first stage: its name, its folder's owner, and the context that its stages share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.config import targets
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import PruneConfig, RunConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.devices.connect import connect, require_address
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError
from yolo_slim.files import fitted_name
from yolo_slim.progress import Progress, Silent
from yolo_slim.stages.context import Context
from yolo_slim.workspace.folder import RUN, Owner
from yolo_slim.workspace.job import content


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration, with the folder and the context that its stages share."""

    config: RunConfig
    folder: Path
    context: Context

    @property
    def model(self) -> Path:
        """The user's checkpoint."""
        return Path(self.config.model)


LATENCY_ROUND_TO = 8
"""Multiple of the widths under a budget in milliseconds, where the settings don't say one."""


def default_name(config: RunConfig) -> str:
    """Name a run after what decides it: weights, target, input side and the share removed."""
    decided = f"-{Path(config.target).stem}-{config.imgsz}-{amount_of(config.prune)}{named_build(config)}"
    # Ultralytics doesn't train in a folder with an apostrophe (training/arguments.py).
    return fitted_name(Path(config.model).stem.replace("'", ""), after=decided)


def named_build(config: RunConfig) -> str:
    """The build that a cut to milliseconds is made for by name, for a name: another build is another cut."""
    is_named = config.prune.frame_ms is not None and config.latency.runtime is not None
    return f"-{config.latency.runtime}" if is_named else ""


def amount_of(config: PruneConfig) -> str:
    """Say what is removed, for a name: the share of the MACs, of the parameters (p), the size left (mb), or the
    speed (fps, ms).
    """
    budget, value = config.budget
    percent = f"{value * 100:g}"
    return {
        "macs_removed": percent,
        "params_removed": f"p{percent}",
        "max_size_mb": f"{value:g}mb",
        "target_fps": f"{value:g}fps",
        "latency_ms": f"{value:g}ms",
    }[budget]


def width_multiple(config: PruneConfig, profile: Profile, *, in_ms: bool) -> int:
    """The multiple of the widths: the settings' own, else the one that suits the budget.

    ``in_ms``: the cut follows a latency table, which says by itself at which widths the runtimes get faster.
    """
    return config.round_to or (LATENCY_ROUND_TO if in_ms else profile.channel_multiple)


def resolved(config: RunConfig, profile: Profile, *, in_ms: bool) -> RunConfig:
    """Fill in what the target decides: the multiple that widths are rounded to (:func:`width_multiple`).

    Raises:
        SlimError: a multiple that the device's runtimes don't compute in.
    """
    round_to = width_multiple(config.prune, profile, in_ms=in_ms)
    if not in_ms and round_to % profile.channel_multiple:
        raise SlimError(
            f"prune.round_to {round_to} is not a multiple of {profile.name}'s channel_multiple "
            f"{profile.channel_multiple}.",
            remedy=f"Set prune.round_to to {profile.channel_multiple}, or change the profile.",
        )
    return config.model_copy(update={"prune": config.prune.model_copy(update={"round_to": round_to})})


def with_speed_gate(profile: Profile, config: PruneConfig) -> Profile:
    """The profile whose gate is the speed that was asked for, where that is more than its own."""
    if config.frame_ms is None:
        return profile
    min_fps = max(1000 / config.frame_ms, profile.budget.min_fps or 0.0)
    return profile.model_copy(update={"budget": profile.budget.model_copy(update={"min_fps": min_fps})})


def prepared(
    config: RunConfig,
    folder: Path,
    *,
    command: str = "",
    progress: Progress | None = None,
    retrain: bool = False,
    runs_bundles: bool = False,
    in_ms: bool = False,
) -> Run:
    """Read the target and the data set's description; no network is loaded and nothing is written here.

    With ``runs_bundles`` the device of the settings is opened too; the caller closes it. ``in_ms`` resolves the
    settings as for a budget in milliseconds, whatever the budget is.
    """
    profile = targets.load(config.target)
    in_ms = in_ms or config.prune.frame_ms is not None
    config, profile = resolved(config, profile, in_ms=in_ms), with_speed_gate(profile, config.prune)
    if runs_bundles:
        require_address(config.device)
    dataset, listener = load_dataset(Path(config.data)), progress or Silent()
    # Last: what is wrong with the files is found before a device is asked.
    device = connect(config.device, profile, listener) if runs_bundles else LocalDevice()
    context = Context(
        dataset=dataset,
        device=device,
        profile=profile,
        imgsz=config.imgsz,
        seed=config.seed,
        end2end=config.export.end2end,
        command=command,
        progress=listener,
        retrain=retrain,
    )
    return Run(config=config, folder=folder, context=context)


def owner_of(config: RunConfig, command: str = "") -> Owner:
    """Say whose a run's folder is: results of another model, data set or target don't belong there."""
    identity = {
        "model_sha256": content(Path(config.model)),
        "data": str(Path(config.data).resolve()),
        "target": targets.load(config.target).name,
    }
    record = {"config": config.model_dump(by_alias=True), "command": command}
    return Owner(kind=RUN, identity=identity, record=record)
