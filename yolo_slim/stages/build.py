"""The graphs of a model -> one bundle per build of the target, each a folder and a .tar.gz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.devices import device_wheel
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.export.builds import FLOAT_GRAPH, SELFCHECK_CANDIDATES, ExpectedBuilds, archive_of, graph_of
from yolo_slim.files import sha256_json
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

REVISION = 6
"""Raised when bundles of equal inputs come out otherwise; 5: NCNN computes Hardswish with the convolution."""
PACKAGES = ("onnx", "onnxruntime", "ncnn", "pnnx", "MNN", "numpy", "opencv-python", "tensorrt-rtx")
"""Packages that convert the graphs, check them, and compute the self-check."""

NOTHING_FOUND = (
    "WARNING: the model finds nothing in the {images} images that were tried for the self-check, so the bundle's check "
    "will fail: train the model longer, or look at its mAP"
)
"""Said of a bundle whose self-check would compare nothing. It is built: what it is worth is the verdict's to say."""
NOT_IN_BUNDLES = {"description", "imgsz", "channel_multiple", "budget", "rungs", "thermal"}
"""Keys of a profile that no bundle contains: they set defaults, decide the widths, judge and time."""


@dataclass(frozen=True, kw_only=True)
class BuildInputs:
    """What the stage reads."""

    onnx: Path
    """Exported graph."""
    images: Sequence[Path]
    """Images to choose the self-check's from."""
    graphs: Mapping[str, Path] = field(default_factory=dict)
    """Graphs of other precisions from the quantize stage, by their names."""

    def graph(self, name: str) -> Path:
        """Give the graph of a name."""
        return self.onnx if name == FLOAT_GRAPH else self.graphs[name]


@dataclass(frozen=True, kw_only=True)
class BuildOutputs:
    """What the stage wrote."""

    bundles: dict[BuildName, Path]
    """Folder of each bundle; ``FOLDER.tar.gz`` lies beside it."""
    skipped: dict[BuildName, str]
    """Builds that can't be made, with the reason."""
    preflight: dict[BuildName, object] = field(default_factory=dict)
    """What was checked of builds that only the device can finish, as JSON values."""


def run(inputs: BuildInputs, folder: Path, context: Context, *, name: str) -> BuildOutputs:
    """Build every bundle of the context's profile.

    Raises:
        SlimError: not an exported graph, a graph that is missing, no build left, or a backend that fails.
    """
    job = _job(inputs, folder, context, name)

    def make(found: _Checked) -> Made:
        return _made(inputs, found, folder, context, name)

    facts = run_once(job, make, context, check=lambda: _checked(inputs, context)).facts
    return BuildOutputs(
        bundles={BuildName.parse(key): folder / key for key in facts["bundles"]},
        skipped={BuildName.parse(key): reason for key, reason in facts["skipped"].items()},
        preflight={BuildName.parse(key): found for key, found in facts["preflight"].items()},
    )


def _job(inputs: BuildInputs, folder: Path, context: Context, name: str) -> Job:
    """Say what decides the bundles: their graphs, their images, and what they contain of the profile."""
    needed = {graph_of(build) for build in context.profile.builds}
    graphs = sorted({FLOAT_GRAPH, *(graph for graph in needed if graph in inputs.graphs)})
    return Job(
        stage="build",
        folder=folder,
        settings={"profile": context.profile.model_dump(exclude=NOT_IN_BUNDLES), "name": name},
        inputs={
            **{graph: content(inputs.graph(graph)) for graph in graphs},
            "images": sha256_json([content(path) for path in inputs.images]),
            # The bundles contain it as a wheel.
            "device code": device_wheel.code_digest(),
        },
        revision=REVISION,
        packages=PACKAGES,
    )


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """What is known before the first bundle is made."""

    expected: ExpectedBuilds
    preflight: dict[str, object]
    """Build to what was checked, of those that only the device can finish."""
    refused: dict[str, str]
    """Build to the reason why it can't work on the device."""


def _checked(inputs: BuildInputs, context: Context) -> _Checked:
    """Refuse graphs that nothing can be built from, and check what only the device can finish."""
    from yolo_slim.backends import engine_builder
    from yolo_slim.export.builds import expected_builds, require_builds, require_graphs
    from yolo_slim.export.preflight import preflight
    from yolo_slim.models.exported import layout_of, require_same_layout

    profile, layout = context.profile, layout_of(inputs.onnx).layout
    expected = expected_builds(profile, layout)
    require_builds(profile, expected.possible, _by_name(expected.skipped))
    require_graphs(expected.possible, inputs.graphs)
    needed = {graph_of(build) for build in expected.possible}
    require_same_layout(inputs.onnx, {name: path for name, path in inputs.graphs.items() if name in needed})
    on_device = [build for build in expected.possible if engine_builder(build.runtime)]
    checks: dict[str, object] = {}
    refused: dict[str, str] = {}
    for done, build in enumerate(on_device):
        context.progress.step(f"build: preflight of {build}", done, len(on_device))
        found = preflight(inputs.graph(graph_of(build)), profile, build.precision, layout)
        checks[str(build)] = found.to_json()
        if not found.is_passed:
            refused[str(build)] = "; ".join(f"{check.name}: {check.detail}" for check in found.failures)
    return _Checked(expected=expected, preflight=checks, refused=refused)


def _made(inputs: BuildInputs, found: _Checked, folder: Path, context: Context, name: str) -> Made:
    """Build the bundles that no preflight refused."""
    from yolo_slim.export.builds import require_builds
    from yolo_slim.export.bundle_maker import BundleSource, make_bundle
    from yolo_slim.models.exported import layout_of

    skipped = {**_by_name(found.expected.skipped), **found.refused}
    builds = [build for build in found.expected.possible if str(build) not in found.refused]
    require_builds(context.profile, builds, skipped)
    source = BundleSource(
        name=name, exported=inputs.onnx, layout=layout_of(inputs.onnx), images=inputs.images, profile=context.profile
    )
    folders = [folder / str(build) for build in builds]
    for done, (build, bundle) in enumerate(zip(builds, folders, strict=True)):
        context.progress.step(f"build: {build}", done, len(builds))
        with os_errors_explained(folder):
            compared = make_bundle(source, build, inputs.graph(graph_of(build)), bundle)
        if not compared:
            context.progress.say(f"build: {build}: {NOTHING_FOUND.format(images=len(inputs.images))}")
    context.progress.step("build", len(builds), len(builds))
    context.progress.say(f"build: {', '.join(map(str, builds))} in {folder}")
    files = sorted(path for bundle in folders for path in bundle.rglob("*") if path.is_file())
    facts = {"bundles": list(map(str, builds)), "skipped": skipped, "preflight": found.preflight}
    return Made(outputs=[*files, *map(archive_of, folders)], facts=facts)


def _by_name(values: Mapping[BuildName, str]) -> dict[str, str]:
    """Write builds as the manifest names them."""
    return {str(build): value for build, value in values.items()}


def selfcheck_images(dataset: Dataset) -> list[Path]:
    """Choose the validation images that are tried for the self-check: the first with labels.

    Raises:
        SlimError: there are none.
    """
    images = dataset.splits.get("val", [])
    if not images:
        raise SlimError(
            f"{dataset.yaml}: no validation images for the bundle's self-check.",
            culprits=dataset.problems.get("val", ()),
            remedy="Add a split 'val'.",
        )
    labelled = [path for path in images[:200] if has_labels(path)]
    return (labelled or images)[:SELFCHECK_CANDIDATES]
