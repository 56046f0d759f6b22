"""The graphs of a model -> one bundle per runtime and precision of a profile, each a folder and a .tar.gz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from yolo_slim.backends import backend, engine_builder, extra_files
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

    bundles: dict[str, Path]
    """``runtime-precision`` to the bundle's folder; ``FOLDER.tar.gz`` lies beside it."""
    skipped: dict[str, str]
    """``runtime-precision`` to the reason why it can't be built."""
    preflight: dict[str, Any] = field(default_factory=dict)
    """``runtime-precision`` to what was checked of a build that only the device can finish."""


def graph_name(runtime: str, precision: str) -> str:
    """Return the name of the graph that a build starts from: ``fp32``, ``fp16``, ``int8`` or ``int8-tensorrt``.

    NCNN's converter makes its own fp16; TensorRT fuses another placement of Q/DQ pairs than ONNX Runtime.
    """
    if runtime == "ncnn":
        return FLOAT_GRAPH
    return "int8-tensorrt" if (runtime, precision) == ("tensorrt", "int8") else precision


def precisions_needed(profile: Profile) -> list[str]:
    """Return the precisions, besides fp32, for which a profile's builds need a graph of their own."""
    names = {graph_name(c.runtime, precision) for c in profile.runtimes for precision in c.precisions}
    return sorted({name.split("-")[0] for name in names} - {FLOAT_GRAPH})


def expected_builds(profile: Profile, layout: str) -> BuildOutputs:
    """List a profile's builds by the names of their folders; what the graph's layout rules out is skipped."""
    pairs = [(c.runtime, f"{c.runtime}-{precision}") for c in profile.runtimes for precision in c.precisions]
    unable = {
        key: "its runtime can't run an end2end graph; the raw one-to-many export works there"
        for runtime, key in pairs
        if layout == "end2end" and runtime in NO_END2END
    }
    return BuildOutputs(bundles={key: Path(key) for _, key in pairs if key not in unable}, skipped=unable)


def run(inputs: BuildInputs, folder: Path, context: Context, *, name: str) -> BuildOutputs:
    """Build every bundle of the context's profile.

    Raises:
        SlimError: not an exported graph, a graph that is missing, no build left, or a backend that fails.
    """
    profile = context.profile
    about = layout_of(inputs.onnx)
    expected = expected_builds(profile, about.layout)
    _require_builds(profile, expected.bundles, expected.skipped)
    needed = {key: graph_name(*key.rsplit("-", 1)) for key in expected.bundles}
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
    return BuildOutputs(
        bundles={key: folder / key for key in manifest.facts["bundles"]},
        skipped=manifest.facts["skipped"],
        preflight=manifest.facts["preflight"],
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
    built = {key: folder / key for key in expected.bundles if key not in found.refused}
    _require_builds(context.profile, built, skipped)
    for done, (key, bundle) in enumerate(built.items()):
        context.progress.step(f"build: {key}", done, len(built))
        with os_errors_explained(folder):
            _build_one(inputs, context.profile, bundle, name, about)
    context.progress.step("build", len(built), len(built))
    files = [path for bundle in built.values() for path in bundle.rglob("*") if path.is_file()]
    archives = [archive_of(bundle) for bundle in built.values()]
    context.progress.say(f"build: {', '.join(built)} in {folder}")
    facts = {"bundles": list(built), "skipped": skipped, "preflight": found.checks}
    return Made(outputs=[*sorted(files), *archives], facts=facts)


def _require_builds(profile: Profile, builds: Mapping[str, Path], skipped: Mapping[str, str]) -> None:
    """Raise where nothing is left to build."""
    if not builds:
        raise SlimError(
            f"No runtime of {profile.name} can run this graph.",
            culprits=[f"{key}: {reason}" for key, reason in skipped.items()],
            remedy="Export without export.end2end, or choose other precisions in the profile.",
        )


def _require_graphs(inputs: BuildInputs, needed: Mapping[str, str]) -> None:
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

    checks: dict[str, Any]
    """Build to what was checked."""
    refused: dict[str, str]
    """Build to the reason why it can't work on the device."""


def _preflights(
    inputs: BuildInputs, profile: Profile, needed: Mapping[str, str], layout: str, context: Context
) -> _Preflights:
    """Check builds that only the device can finish."""
    wanted = [key for key in needed if engine_builder(key.rsplit("-", 1)[0])]
    checks: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for done, key in enumerate(wanted):
        context.progress.step(f"build: preflight of {key}", done, len(wanted))
        found = preflight(inputs.graph(needed[key]), profile, key.rsplit("-", 1)[1], layout)
        checks[key] = found.to_json()
        if not found.is_passed:
            refused[key] = "; ".join(f"{check.name}: {check.detail}" for check in found.failures)
    return _Preflights(checks=checks, refused=refused)


def archive_of(folder: Path) -> Path:
    """Return the path of a bundle folder's .tar.gz."""
    return folder.with_name(f"{folder.name}.tar.gz")


def _build_one(inputs: BuildInputs, profile: Profile, folder: Path, name: str, about: GraphLayout) -> None:
    """Build one bundle: model, self-check, wheel, then bundle.json, then the archive."""
    runtime, precision = folder.name.rsplit("-", 1)
    onnx = inputs.graph(graph_name(runtime, precision))
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
