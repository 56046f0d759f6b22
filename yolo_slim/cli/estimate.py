"""``yolo-slim estimate``: how fast a network may be on a device that isn't at hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo_slim.bundle import BUNDLE_JSON
from yolo_slim.cli.answer import answer
from yolo_slim.cli.group import cli
from yolo_slim.cli.inputs import InputPath
from yolo_slim.cli.options import as_json, complete_target
from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yolo_slim.config.profile import Profile
    from yolo_slim.measuring.estimate import Estimate

GIVE = "Give a checkpoint (.pt), an exported graph (.onnx), a bundle, the folder of a run or its result.json."


@cli.command()
@click.argument("path", type=InputPath(GIVE, may_be_folder=True))
@click.option("--target", shell_complete=complete_target, help="Device; none: that of the bundle or run.")
@click.option("--imgsz", type=click.IntRange(min=32), help="Input side in pixels; none: that of the file or target.")
@as_json
def estimate(path: Path, target: str | None, imgsz: int | None, as_json: bool) -> None:
    """Estimate the FPS on a device that isn't at hand.

    It is the FPS of inference alone, from rows that others published.

    PATH is a checkpoint (.pt), an exported graph (.onnx), a bundle or a run. An estimate isn't a measurement: no gate
    reads it, and docs/benchmarks/estimate.md has its error. To measure, run the bundle on the device.
    """
    from yolo_slim.reporting.estimates import sources
    from yolo_slim.reporting.text import estimated, wrapped

    profile, found = _of_path(path, target, imgsz)
    missing = _missing(profile, found)
    if not found:
        raise SlimError(
            f"No estimate can be made for {profile.name}.",
            culprits=missing,
            remedy="Run the bundle on the device (docs/bundle.md), or give another --target.",
        )
    lines = [*estimated(found), *(line for text in missing for line in wrapped(text, "  no estimate: "))]
    lines += [line for source in sources(found) for line in wrapped(source, "  source: ")]
    values = {"target": profile.name, "measured": False, "estimates": [one.to_json() for one in found]}
    answer({**values, "missing": missing}, as_json=as_json, text="\n".join(lines))


def _missing(profile: Profile, found: Sequence[Estimate]) -> list[str]:
    """Name the builds of a target that have no estimate, with the reason."""
    from yolo_slim.measuring.estimate import why_none

    known = {one.build for one in found}
    return [f"{build}: {why_none(profile, build)}" for build in profile.builds if build not in known]


def _of_path(path: Path, target: str | None, imgsz: int | None) -> tuple[Profile, Sequence[Estimate]]:
    """The target, and the estimates of whatever a path is."""
    places = (path / "validate/result.json", path / "result.json", path)
    result = next((place for place in places if place.suffix == ".json" and place.is_file()), None)
    if result:
        return _of_result(result, target, imgsz)
    if path.suffix == ".pt":
        return _of_checkpoint(path, target, imgsz)
    if path.suffix == ".onnx":
        return _of_graph(path, target, imgsz)
    if path.name.endswith(".tar.gz") or (path / BUNDLE_JSON).is_file():
        return _of_bundle(path, target, imgsz)
    raise SlimError(f"{path} is no network, bundle or finished run.", remedy=GIVE)


def _of_result(path: Path, target: str | None, imgsz: int | None) -> tuple[Profile, Sequence[Estimate]]:
    """Estimate the builds of a run, those of its control too."""
    from yolo_slim.verdict.estimates import estimate_builds
    from yolo_slim.verdict.result import NetworkSize, Result, Sizes

    result = Result.load(path)
    profile, side = _profile(target or result.target.name), imgsz or result.imgsz
    pixels = (side / result.imgsz) ** 2
    control, slim = (
        NetworkSize(params=size.params, macs=round(size.macs * pixels))
        for size in (result.size.control, result.size.slim)
    )
    return profile, estimate_builds(profile, result.builds, Sizes(control=control, slim=slim), side)


def _of_checkpoint(path: Path, target: str | None, imgsz: int | None) -> tuple[Profile, Sequence[Estimate]]:
    """Estimate every build of the target."""
    from yolo_slim.models import checkpoint
    from yolo_slim.models.macs import measure

    profile = _profile(target)
    side, loaded = imgsz or profile.imgsz, checkpoint.load(path, checkpoint.TASKS)
    checkpoint.require_imgsz(loaded, side)
    return profile, _of_network(profile, measure(loaded.model, side).macs, side)


def _of_graph(path: Path, target: str | None, imgsz: int | None) -> tuple[Profile, Sequence[Estimate]]:
    """Estimate every build of the target that an exported graph could become."""
    from yolo_slim.models.exported import layout_of

    return _of_counted(path, layout_of(path).imgsz, _profile(target), imgsz)


def _of_bundle(path: Path, target: str | None, imgsz: int | None) -> tuple[Profile, Sequence[Estimate]]:
    """Estimate every build of the target for the graph in a bundle."""
    from yolo_slim.bundle import open_bundle

    bundle = open_bundle(path)
    if "onnx" not in bundle.spec.model:
        raise SlimError(
            f"{path}: a bundle of {bundle.spec.runtime} doesn't say how many multiply-accumulates it needs.",
            remedy="Give the run, the checkpoint or the bundle of another runtime.",
        )
    return _of_counted(bundle.model_path("onnx"), bundle.spec.imgsz, _profile(target or bundle.spec.target), imgsz)


def _of_counted(
    graph: Path, own: tuple[int, int], profile: Profile, imgsz: int | None
) -> tuple[Profile, Sequence[Estimate]]:
    """Estimate a graph with an input of ``own`` height and width, at its own side or another."""
    from yolo_slim.models.onnx_macs import count

    pixels = own[0] * own[1]
    side = imgsz or round(math.sqrt(pixels))
    return profile, _of_network(profile, round(count(graph) * side**2 / pixels), side)


def _of_network(profile: Profile, macs: int, imgsz: int) -> list[Estimate]:
    """Estimate every build of the target; whether the network was pruned isn't known, so the band is the wider one."""
    from yolo_slim.measuring.estimate import Network, estimate

    network = Network(macs=macs, imgsz=imgsz, is_pruned=True)
    found = [estimate(profile, build, network) for build in profile.builds]
    return [one for one in found if one]


def _profile(target: str | None) -> Profile:
    """Load the target's profile.

    Raises:
        SlimError: none was named.
    """
    from yolo_slim.config import targets

    if target is None:
        raise SlimError(
            "An estimate is of one device.", remedy="Name it: --target rpi5. `yolo-slim targets` lists all."
        )
    return targets.load(target)
