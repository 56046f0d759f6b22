"""Measurements and judgement -> the complete :class:`~yolo_slim.verdict.result.Result`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.record import read_record
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.machine import describe_machine
from yolo_slim.measuring.control_check import ControlCheck
from yolo_slim.measuring.emulated import Emulated
from yolo_slim.measuring.images import ScoredImages
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.measuring.measure import Measured
from yolo_slim.measuring.networks import Networks, Setup
from yolo_slim.measuring.sides import Sides
from yolo_slim.verdict.estimates import estimate_builds
from yolo_slim.verdict.judge import judge
from yolo_slim.verdict.remarks import contradicted_labels, exchanged_activation, not_built
from yolo_slim.verdict.result import (
    MEASURE_AGAIN,
    DataFacts,
    LayerWidth,
    NetworkSize,
    PreflightFacts,
    Result,
    Sizes,
    TargetFacts,
)
from yolo_slim.workspace.job import versions


@dataclass(frozen=True, kw_only=True)
class About:
    """What a result says besides measurements and judgement."""

    name: str
    """Name of the run."""
    command: str
    """Command line, for the record."""
    data: str
    """File name of the data set's description."""
    skipped: Mapping[BuildKey, str]
    """Builds that weren't possible, with the reason."""
    preflight: Mapping[BuildName, object]
    """What was checked ahead of builds that only the device can finish, as JSON values."""
    control_check: ControlCheck | None
    """How the control was checked; None: it wasn't."""
    emulated: Emulated | None = None
    """What the bundles did on an emulated processor of the target; None: they weren't emulated."""
    latency: LatencyCut | None = None
    """How a budget in milliseconds was reached; None: the budget was of another kind."""
    sides: Sides | None = None
    """How the input side was chosen; None: it was given."""
    bad_layer: str | None
    """The layer of the int8 graph to look at first."""


def assemble(measured: Measured, networks: Networks, setup: Setup, about: About) -> Result:
    """Judge by the profile and put everything together."""
    profile, images = setup.profile, setup.images
    on_target = setup.device.is_target(profile)
    data = _data(about.data, images, measured.names)
    judged = judge(
        measured, profile, on_target=on_target, device_name=setup.device.name, bad_layer=about.bad_layer,
        unlabelled={class_id: data.names[class_id] for class_id in data.unlabelled_classes}, emulated=about.emulated,
    )  # fmt: skip
    size = _sizes(networks, setup.imgsz)
    return Result(
        name=about.name,
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=about.command,
        target=TargetFacts(name=profile.name, description=profile.description, is_measured=on_target),
        imgsz=setup.imgsz,
        data=data,
        control_check=about.control_check,
        emulated=about.emulated,
        latency=about.latency,
        sides=about.sides,
        verdict=judged.verdict,
        winner=judged.winner,
        size=size,
        widths=_widths(networks),
        ladder=judged.ladder,
        builds=judged.builds,
        speedups=judged.speedups,
        estimates=() if on_target else estimate_builds(profile, judged.builds, size, setup.imgsz),
        preflight={
            build: read_record(PreflightFacts, found, f"preflight of {build}", MEASURE_AGAIN)
            for build, found in about.preflight.items()
        },
        machine=read_record(DeviceFacts, describe_machine(), "machine", ""),
        versions=versions(),
        notes=(
            *not_built(about.skipped),
            *images.notes,
            *contradicted_labels(about.control_check),
            *_unlabelled_note(data),
            *_activation_note(networks),
            *judged.notes,
        ),
    )


def _data(yaml: str, images: ScoredImages, names: dict[int, str]) -> DataFacts:
    return DataFacts(
        yaml=yaml, split=images.split, images=len(images.paths), boxes=images.boxes, names=names,
        unlabelled_classes=images.unlabelled(names),
    )  # fmt: skip


def _unlabelled_note(data: DataFacts) -> list[str]:
    """Say for which classes nothing is proven."""
    if not data.unlabelled_classes:
        return []
    named = [f"{class_id} {data.names[class_id]}" for class_id in data.unlabelled_classes]
    shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
    share = f"{len(named)} of {len(data.names)} classes"
    return [f"no {data.split} image has a label of {share} ({shown}): their accuracy is unproven"]


def _activation_note(networks: Networks) -> list[str]:
    """Say where recovery exchanged the activation."""
    from yolo_slim.models.activation import activations

    return exchanged_activation(*(activations(one.model) for one in (networks.weights["control"], networks.slim)))


def _sizes(networks: Networks, imgsz: int) -> Sizes:
    """Count parameters and MACs before and after."""
    from yolo_slim.models.macs import measure

    pair = (networks.weights["control"], networks.slim)
    before, after = (measure(one.model, imgsz, end2end=networks.end2end).to_json() for one in pair)
    return Sizes(control=NetworkSize(**before), slim=NetworkSize(**after))


def _widths(networks: Networks) -> tuple[LayerWidth, ...]:
    """List the channels of every convolution that both networks have."""
    from yolo_slim.models.macs import conv_widths

    before, after = conv_widths(networks.weights["control"].model), conv_widths(networks.slim.model)
    return tuple(
        LayerWidth(layer=name, before=width, after=after[name]) for name, width in before.items() if name in after
    )
