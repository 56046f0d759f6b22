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
from yolo_slim.progress import Progress, Silent
from yolo_slim.quantization.graph import GraphLayout, layout_of
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import make_selfcheck
from yolo_slim.workspace.job import Job, read_manifest, versions

SELFCHECK_IMAGES = 3
NO_END2END = ("ncnn",)
"""Runtimes without the top-k operations of an end2end graph."""
REVISION = 2
"""Raised when bundles of equal inputs come out otherwise; 2: the DFL over the last axis in ONNX Runtime."""
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


def planned(profile: Profile, layout: str) -> BuildOutputs:
    """Return the runtime-precision pairs of a profile, as folder names; what a layout rules out is skipped."""
    pairs = [(c.runtime, f"{c.runtime}-{precision}") for c in profile.runtimes for precision in c.precisions]
    unable = {
        key: "its runtime can't run an end2end graph; the raw one-to-many export works there"
        for runtime, key in pairs
        if layout == "end2end" and runtime in NO_END2END
    }
    return BuildOutputs(bundles={key: Path(key) for _, key in pairs if key not in unable}, skipped=unable)


def run(
    inputs: BuildInputs, profile: Profile, out_dir: Path, *, name: str, progress: Progress | None = None
) -> BuildOutputs:
    """Build every bundle of a profile.

    Raises:
        SlimError: not an exported graph, a graph that is missing, no build left, or a backend that fails.
    """
    progress = progress or Silent()
    about = layout_of(inputs.onnx)
    plan = planned(profile, about.layout)
    _require_builds(profile, plan.bundles, plan.skipped)
    needed = {key: graph_name(*key.rsplit("-", 1)) for key in plan.bundles}
    _require_graphs(inputs, needed)
    job = Job(
        stage="build",
        folder=out_dir,
        config={"profile": profile.model_dump(), "name": name, "revision": REVISION},
        inputs={
            **{graph: sha256(inputs.graph(graph)) for graph in sorted({FLOAT_GRAPH, *needed.values()})},
            "images": sha256_json([sha256(path) for path in inputs.images]),
        },
    )
    if job.is_done():
        progress.say("build: done before, kept")
        return _outputs(out_dir, read_manifest(out_dir))
    job.begin()
    checks, refused = _preflights(inputs, profile, needed, about.layout, progress)
    skipped = {**plan.skipped, **refused}
    built = {key: out_dir / key for key in plan.bundles if key not in refused}
    _require_builds(profile, built, skipped)
    for done, (key, folder) in enumerate(built.items()):
        progress.step(f"build: {key}", done, len(built))
        with os_errors_explained(out_dir):
            _build_one(inputs, profile, folder, name, about)
    progress.step("build", len(built), len(built))
    files = [path for folder in built.values() for path in folder.rglob("*") if path.is_file()]
    archives = [archive_of(folder) for folder in built.values()]
    job.finish([*sorted(files), *archives], {"bundles": list(built), "skipped": skipped, "preflight": checks})
    progress.say(f"build: {', '.join(built)} in {out_dir}")
    return _outputs(out_dir, read_manifest(out_dir))


def _outputs(folder: Path, manifest: Mapping[str, Any]) -> BuildOutputs:
    """Return what a finished stage's manifest says."""
    return BuildOutputs(
        bundles={key: folder / key for key in manifest["bundles"]},
        skipped=manifest["skipped"],
        preflight=manifest["preflight"],
    )


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


def _preflights(
    inputs: BuildInputs, profile: Profile, needed: Mapping[str, str], layout: str, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what is known of builds that only the device can finish, and why some of them can't work there."""
    wanted = [key for key in needed if engine_builder(key.rsplit("-", 1)[0])]
    checks: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for done, key in enumerate(wanted):
        progress.step(f"build: preflight of {key}", done, len(wanted))
        found = preflight(inputs.graph(needed[key]), profile, key.rsplit("-", 1)[1], layout)
        checks[key] = found.to_json()
        if not found.is_passed:
            refused[key] = "; ".join(f"{check.name}: {check.detail}" for check in found.failures)
    return checks, refused


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
            build=profile.build_settings(runtime),
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
    return replace(spec, runtime="onnxruntime", build={}) if engine_builder(spec.runtime) else spec


def _provenance(inputs: BuildInputs, onnx: Path) -> dict[str, Any]:
    """Return where a bundle's model comes from."""
    calibration = onnx.with_name("calibration.json")
    found: dict[str, Any] = {"onnx_sha256": sha256(onnx), "versions": versions()}
    if onnx != inputs.onnx:
        found["exported_onnx_sha256"] = sha256(inputs.onnx)
        if "int8" in onnx.stem and calibration.is_file():
            found["calibration_sha256"] = sha256(calibration)
    return found
