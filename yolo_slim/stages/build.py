"""The graphs of a model -> one bundle per runtime and precision of a profile, each a folder and a .tar.gz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from yolo_slim.backends import backend, engine_builder, extra_files
from yolo_slim.build_key import BuildName
from yolo_slim.bundle import Bundle, BundleSpec, open_bundle, pack, write_bundle_json
from yolo_slim.config.profile import Profile
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.export import device_wheel
from yolo_slim.export.preflight import preflight
from yolo_slim.files import fresh_folder, sha256, sha256_json
from yolo_slim.quantization.graph import GraphLayout, layout_of
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import make_selfcheck
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content, run_once, versions

SELFCHECK_IMAGES = 3
NO_END2END = ("ncnn",)
"""Runtimes without the top-k operations of an end2end graph."""
REVISION = 3
"""Raised when bundles of equal inputs come out otherwise; 3: bundle.json has schema 2."""
PACKAGES = ("onnx", "onnxruntime", "ncnn", "pnnx", "numpy", "opencv-python", "tensorrt-rtx")
"""Packages that convert the graphs, check them, and compute the self-check."""
TENSORRT_INT8 = "int8-tensorrt"
"""Name of the int8 graph for TensorRT, which fuses another placement of Q/DQ pairs than ONNX Runtime."""
FLOAT_GRAPH = "fp32"
"""Name of the graph as it was exported."""


@dataclass(frozen=True, kw_only=True)
class BuildInputs:
    """What the stage reads."""

    onnx: Path
    """Exported graph."""
    images: Sequence[Path]
    """Images of the self-check."""
    graphs: Mapping[str, Path] = field(default_factory=dict)
    """Graphs of other precisions by the names of :func:`graph_name`, from the quantize stage."""

    def graph(self, name: str) -> Path:
        """Return the graph of a name."""
        return self.onnx if name == FLOAT_GRAPH else self.graphs[name]


@dataclass(frozen=True, kw_only=True)
class BuildOutputs:
    """What the stage wrote."""

    bundles: dict[BuildName, Path]
    """Build to the bundle's folder; ``FOLDER.tar.gz`` lies beside it."""
    skipped: dict[BuildName, str]
    """Build to the reason why it isn't possible."""
    preflight: dict[BuildName, object] = field(default_factory=dict)
    """Build that only the device can finish to what was checked of it, as a JSON value."""


def graph_name(build: BuildName) -> str:
    """Name the graph that a build starts from: ``fp32``, ``fp16``, ``int8`` or ``int8-tensorrt``.

    NCNN's converter makes its own fp16.
    """
    if build.runtime == "ncnn":
        return FLOAT_GRAPH
    return TENSORRT_INT8 if build == BuildName("tensorrt", "int8") else build.precision


def precisions_needed(profile: Profile) -> list[str]:
    """List the precisions, besides fp32, for which a profile's builds need a graph of their own."""
    return sorted({build.precision for build in profile.builds if graph_name(build) != FLOAT_GRAPH})


def expected_builds(profile: Profile, layout: str) -> BuildOutputs:
    """List a profile's builds by the names of their folders; what the graph's layout rules out is skipped."""
    unable = {
        build: "its runtime can't run an end2end graph; the raw one-to-many export works there"
        for build in profile.builds
        if layout == "end2end" and build.runtime in NO_END2END
    }
    possible = [build for build in profile.builds if build not in unable]
    return BuildOutputs(bundles={build: Path(str(build)) for build in possible}, skipped=unable)


def run(inputs: BuildInputs, folder: Path, context: Context, *, name: str) -> BuildOutputs:
    """Build every bundle of the context's profile.

    Raises:
        SlimError: not an exported graph, a graph that is missing, no build left, or a backend that fails.
    """
    profile = context.profile
    about = layout_of(inputs.onnx)
    expected = expected_builds(profile, about.layout)
    _require_builds(profile, expected.bundles, expected.skipped)
    needed = {build: graph_name(build) for build in expected.bundles}
    _require_graphs(inputs, needed)
    job = Job(
        stage="build",
        folder=folder,
        settings={"profile": profile.model_dump(), "name": name},
        inputs={
            **{graph: content(inputs.graph(graph)) for graph in sorted({FLOAT_GRAPH, *needed.values()})},
            "images": sha256_json([content(path) for path in inputs.images]),
        },
        revision=REVISION,
        packages=PACKAGES,
    )

    def check() -> _Preflights:
        return _preflights(inputs, profile, needed, about.layout, context)

    def make(found: _Preflights) -> Made:
        return _made(inputs, expected, found, job.folder, context, name, about)

    manifest = run_once(job, make, context, check=check)
    facts = manifest.facts
    return BuildOutputs(
        bundles={BuildName.parse(name): folder / name for name in facts["bundles"]},
        skipped={BuildName.parse(name): reason for name, reason in facts["skipped"].items()},
        preflight={BuildName.parse(name): found for name, found in facts["preflight"].items()},
    )


def _made(
    inputs: BuildInputs,
    expected: BuildOutputs,
    found: _Preflights,
    folder: Path,
    context: Context,
    name: str,
    about: GraphLayout,
) -> Made:
    """Build the bundles that no preflight refused."""
    skipped = {**expected.skipped, **found.refused}
    built = {build: folder / path for build, path in expected.bundles.items() if build not in found.refused}
    _require_builds(context.profile, built, skipped)
    for done, (key, bundle) in enumerate(built.items()):
        context.progress.step(f"build: {key}", done, len(built))
        with os_errors_explained(folder):
            _build_one(inputs, context.profile, key, bundle, name, about)
    context.progress.step("build", len(built), len(built))
    files = [path for bundle in built.values() for path in bundle.rglob("*") if path.is_file()]
    archives = [archive_of(bundle) for bundle in built.values()]
    context.progress.say(f"build: {', '.join(map(str, built))} in {folder}")
    facts = {
        "bundles": [str(key) for key in built],
        "skipped": {str(key): reason for key, reason in skipped.items()},
        "preflight": {str(key): check for key, check in found.checks.items()},
    }
    return Made(outputs=[*sorted(files), *archives], facts=facts)


def _require_builds(profile: Profile, builds: Mapping[BuildName, Path], skipped: Mapping[BuildName, str]) -> None:
    """Raise where nothing is left to build."""
    if not builds:
        raise SlimError(
            f"No runtime of {profile.name} can run this graph.",
            culprits=[f"{key}: {reason}" for key, reason in skipped.items()],
            remedy="Export without export.end2end, or choose other precisions in the profile.",
        )


def _require_graphs(inputs: BuildInputs, needed: Mapping[BuildName, str]) -> None:
    """Raise where a build's graph wasn't given."""
    missing = {key: graph for key, graph in needed.items() if graph != FLOAT_GRAPH and graph not in inputs.graphs}
    if missing:
        raise SlimError(
            "Some builds need graphs that weren't given.",
            culprits=[f"{key}: the {graph} graph" for key, graph in missing.items()],
            remedy="Make them with `yolo-slim quantize` and give its folder with --quantized.",
        )


@dataclass(frozen=True, kw_only=True)
class _Preflights:
    """What is known of builds that only the device can finish."""

    checks: dict[BuildName, object]
    """Build to what was checked."""
    refused: dict[BuildName, str]
    """Build to the reason why it can't work on the device."""


def _preflights(
    inputs: BuildInputs, profile: Profile, needed: Mapping[BuildName, str], layout: str, context: Context
) -> _Preflights:
    """Check builds that only the device can finish."""
    wanted = [build for build in needed if engine_builder(build.runtime)]
    checks: dict[BuildName, object] = {}
    refused: dict[BuildName, str] = {}
    for done, key in enumerate(wanted):
        context.progress.step(f"build: preflight of {key}", done, len(wanted))
        found = preflight(inputs.graph(needed[key]), profile, key.precision, layout)
        checks[key] = found.to_json()
        if not found.is_passed:
            refused[key] = "; ".join(f"{check.name}: {check.detail}" for check in found.failures)
    return _Preflights(checks=checks, refused=refused)


def archive_of(folder: Path) -> Path:
    """Return the path of a bundle folder's .tar.gz."""
    return folder.with_name(f"{folder.name}.tar.gz")


def _build_one(
    inputs: BuildInputs, profile: Profile, build: BuildName, folder: Path, name: str, about: GraphLayout
) -> None:
    """Build one bundle: model, self-check, wheel, then bundle.json, then the archive."""
    runtime, precision = build.runtime, build.precision
    onnx = inputs.graph(graph_name(build))
    with fresh_folder(folder) as temporary:
        built = backend(runtime).build(onnx, temporary, precision=precision, imgsz=about.imgsz)
        spec = BundleSpec(
            name=name,
            target=profile.name,
            runtime=runtime,
            precision=precision,
            threads=profile.threads,
            model=built.model,
            input_name=built.input_name,
            output_name=built.output_name,
            files={},
            provenance=_provenance(inputs, onnx),
            engine=profile.engine_settings(runtime),
            requires=profile.requirements(runtime),
            **asdict(about),
        )
        with Detector(Bundle(folder=temporary, spec=_runnable(spec))) as detector:
            make_selfcheck(temporary, inputs.images[:SELFCHECK_IMAGES], detector)
        device_wheel.write(temporary)
        for file, text in extra_files(spec).items():
            (temporary / file).write_text(text, encoding="utf-8")
        write_bundle_json(temporary, spec)
    open_bundle(folder)
    pack(folder, archive_of(folder))


def _runnable(spec: BundleSpec) -> BundleSpec:
    """Return the specification that runs here: ONNX Runtime stands for an engine that only the device can build."""
    return replace(spec, runtime="onnxruntime", engine={}) if engine_builder(spec.runtime) else spec


def _provenance(inputs: BuildInputs, onnx: Path) -> dict[str, Any]:
    """Return where a bundle's model comes from."""
    calibration = onnx.with_name("calibration.json")
    found: dict[str, Any] = {"onnx_sha256": sha256(onnx), "versions": versions()}
    if onnx != inputs.onnx:
        found["exported_onnx_sha256"] = sha256(inputs.onnx)
        if "int8" in onnx.stem and calibration.is_file():
            found["calibration_sha256"] = sha256(calibration)
    return found
