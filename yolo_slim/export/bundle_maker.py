"""Make one bundle: the runtime's model files, the self-check, the device's wheel, and the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolo_slim.backends import backend, engine_builder, extra_files
from yolo_slim.build_key import BuildName
from yolo_slim.bundle import Bundle, BundleSpec, pack, write_bundle_json
from yolo_slim.config.profile import Profile
from yolo_slim.devices import device_wheel
from yolo_slim.export.builds import SELFCHECK_IMAGES, archive_of
from yolo_slim.files import JsonObject, fresh_folder, sha256
from yolo_slim.models.exported import GraphLayout
from yolo_slim.quantization.files import CALIBRATION_FILE
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import make_selfcheck
from yolo_slim.workspace.job import versions


@dataclass(frozen=True, kw_only=True)
class BundleSource:
    """What the bundles of one model share."""

    name: str
    """Name of the weights, for people."""
    exported: Path
    """The graph as it was exported."""
    layout: GraphLayout
    images: Sequence[Path] = ()
    """Images to choose the self-check's from."""
    profile: Profile


def make_bundle(source: BundleSource, build: BuildName, onnx: Path, folder: Path) -> int:
    """Make the bundle of one build from its graph, in ``folder`` and as .tar.gz beside it.

    Returns:
        How many detections its self-check compares.
    """
    with fresh_folder(folder) as temporary:
        spec = _built(source, build, onnx, temporary)
        # Not open_bundle: bundle.json is written last, because it contains the hashes of the self-check too.
        with Detector(Bundle(folder=temporary, spec=_runnable_here(spec))) as detector:
            compared = make_selfcheck(temporary, source.images, detector, SELFCHECK_IMAGES)
        device_wheel.write(temporary)
        for file, text in extra_files(spec).items():
            (temporary / file).write_text(text, encoding="utf-8")
        write_bundle_json(temporary, spec)
    pack(folder, archive_of(folder))
    return compared


def make_timed_bundle(source: BundleSource, build: BuildName, onnx: Path, folder: Path) -> None:
    """Make the least that a device can time, in a new folder: no self-check, no wheel, no archive."""
    folder.mkdir()
    write_bundle_json(folder, _built(source, build, onnx, folder))


def _built(source: BundleSource, build: BuildName, onnx: Path, folder: Path) -> BundleSpec:
    """Write the runtime's model files, and describe the bundle that they belong to."""
    profile, runtime = source.profile, build.runtime
    built = backend(runtime).build(onnx, folder, precision=build.precision, imgsz=source.layout.imgsz)
    return BundleSpec(
        name=source.name,
        target=profile.name,
        runtime=runtime,
        precision=build.precision,
        threads=profile.threads,
        model=built.model,
        input_name=built.input_name,
        output_name=built.output_name,
        files={},
        provenance=_provenance(source.exported, onnx),
        engine=profile.engine_settings(runtime),
        requires=profile.requirements(runtime),
        **asdict(source.layout),
    )


def _runnable_here(spec: BundleSpec) -> BundleSpec:
    """Let ONNX Runtime compute the self-check of an engine that only the device can build."""
    return replace(spec, runtime="onnxruntime", engine={}) if engine_builder(spec.runtime) else spec


def _provenance(exported: Path, onnx: Path) -> JsonObject:
    """Record where a bundle's model comes from."""
    calibration = onnx.with_name(CALIBRATION_FILE)
    found: dict[str, Any] = {"onnx_sha256": sha256(onnx), "versions": versions()}
    if onnx != exported:
        found["exported_onnx_sha256"] = sha256(exported)
        # The fp16 graph lies beside the same calibration, but doesn't depend on it.
        if "int8" in onnx.stem and calibration.is_file():
            found["calibration_sha256"] = sha256(calibration)
    return found
