"""Which builds a target has, and which graph each of them starts from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import Profile
from yolo_slim.errors import SlimError
from yolo_slim.quantization.files import FP16, INT8, TENSORRT_INT8

SELFCHECK_IMAGES = 3
"""Images of a bundle's self-check."""
SELFCHECK_CANDIDATES = 50
"""Images that are tried for it: the model must find something in them."""
FLOAT_GRAPH = "fp32"
"""Name of the graph as it was exported."""
GRAPHS = {
    BuildName("onnxruntime", "fp16"): FP16,
    BuildName("onnxruntime", "int8"): INT8,
    BuildName("tensorrt", "fp16"): FP16,
    # TensorRT fuses another placement of Q/DQ pairs than ONNX Runtime.
    BuildName("tensorrt", "int8"): TENSORRT_INT8,
}
"""Builds that start from a quantized graph; all others from the float one. NCNN's and MNN's converters make their own
fp16, and MNN's its own int8."""
NO_END2END = ("ncnn", "mnn")
"""Runtimes that don't have the top-k operations of an end2end graph, or were never tried with them."""


@dataclass(frozen=True, kw_only=True)
class ExpectedBuilds:
    """The builds of a target for one graph."""

    possible: list[BuildName]
    """In the order of the profile."""
    skipped: dict[BuildName, str]
    """What the layout of the graph rules out, with the reason."""


def graph_of(build: BuildName) -> str:
    """Name the graph that a build starts from."""
    return GRAPHS.get(build, FLOAT_GRAPH)


def precisions_needed(profile: Profile) -> list[str]:
    """List the precisions, besides fp32, for which a profile's builds need a graph of their own."""
    return sorted({build.precision for build in profile.builds if graph_of(build) != FLOAT_GRAPH})


def expected_builds(profile: Profile, layout: str) -> ExpectedBuilds:
    """List a profile's builds that a graph of this output layout allows."""
    skipped = {
        build: "its runtime can't run an end2end graph; the raw one-to-many export works there"
        for build in profile.builds
        if layout == "end2end" and build.runtime in NO_END2END
    }
    return ExpectedBuilds(possible=[build for build in profile.builds if build not in skipped], skipped=skipped)


def archive_of(folder: Path) -> Path:
    """Say where a bundle folder's .tar.gz lies."""
    return folder.with_name(f"{folder.name}.tar.gz")


def require_builds(profile: Profile, builds: Collection[BuildName], skipped: Mapping[str, str]) -> None:
    """Refuse to build nothing.

    Raises:
        SlimError: no build is left.
    """
    if not builds:
        raise SlimError(
            f"No runtime of {profile.name} can run this graph.",
            culprits=[f"{build}: {reason}" for build, reason in skipped.items()],
            remedy="Export without export.end2end, or choose other precisions in the profile.",
        )


def require_graphs(builds: Collection[BuildName], given: Collection[str]) -> None:
    """Refuse to build from graphs that weren't given.

    Raises:
        SlimError: the graph of every build that lacks one.
    """
    needed = {build: graph_of(build) for build in builds}
    missing = {build: name for build, name in needed.items() if name != FLOAT_GRAPH and name not in given}
    if missing:
        raise SlimError(
            "Some builds need graphs that weren't given.",
            culprits=[f"{build}: the {name} graph" for build, name in missing.items()],
            remedy="Make them with `yolo-slim quantize` and give its folder with --quantized.",
        )
