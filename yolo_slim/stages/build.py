"""model.onnx -> one bundle per runtime and precision of a profile, each a folder and a .tar.gz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim import device_wheel
from yolo_slim.backends import backend
from yolo_slim.config import Profile
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import fresh_folder, sha256, sha256_json
from yolo_slim.manifest import Job, versions
from yolo_slim.progress import Progress, Silent
from yolo_slim.runtime.bundle import Bundle, BundleSpec, open_bundle, pack, write_bundle_json
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import make_selfcheck
from yolo_slim.stages.export import layout_of

SELFCHECK_IMAGES = 3
NO_END2END = ("ncnn",)
"""Runtimes without the top-k operations of an end2end graph."""


@dataclass(frozen=True, kw_only=True)
class BuildInputs:
    """What the stage reads."""

    onnx: Path
    """Exported graph."""
    images: Sequence[Path]
    """Images of the self-check."""


@dataclass(frozen=True, kw_only=True)
class BuildOutputs:
    """What the stage wrote."""

    bundles: dict[str, Path]
    """``runtime-precision`` to the bundle's folder; ``FOLDER.tar.gz`` lies beside it."""
    skipped: dict[str, str]
    """``runtime-precision`` to the reason why it can't be built."""


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
        SlimError: not an exported graph, no runtime left, or a backend that fails.
    """
    progress = progress or Silent()
    about = layout_of(inputs.onnx)
    plan = planned(profile, about["layout"])
    if not plan.bundles:
        raise SlimError(
            f"No runtime of {profile.name} can run this graph.",
            culprits=[f"{key}: {reason}" for key, reason in plan.skipped.items()],
            remedy="Export without export.end2end.",
        )
    job = Job(
        stage="build",
        folder=out_dir,
        config={"profile": profile.model_dump(), "name": name},
        inputs={"onnx": sha256(inputs.onnx), "images": sha256_json([sha256(path) for path in inputs.images])},
    )
    outputs = BuildOutputs(bundles={key: out_dir / key for key in plan.bundles}, skipped=plan.skipped)
    if job.is_done():
        progress.say("build: done before, kept")
        return outputs
    job.begin()
    for done, (key, folder) in enumerate(outputs.bundles.items()):
        progress.step(f"build: {key}", done, len(outputs.bundles))
        with os_errors_explained(out_dir):
            _build_one(inputs, profile, folder, name, about)
    progress.step("build", len(outputs.bundles), len(outputs.bundles))
    files = [path for folder in outputs.bundles.values() for path in folder.rglob("*") if path.is_file()]
    archives = [archive_of(folder) for folder in outputs.bundles.values()]
    job.finish([*sorted(files), *archives], {"skipped": plan.skipped})
    progress.say(f"build: {', '.join(outputs.bundles)} in {out_dir}")
    return outputs


def archive_of(folder: Path) -> Path:
    """Return the path of a bundle folder's .tar.gz."""
    return folder.with_name(f"{folder.name}.tar.gz")


def _build_one(inputs: BuildInputs, profile: Profile, folder: Path, name: str, about: dict[str, Any]) -> None:
    """Build one bundle: model, self-check, wheel, then bundle.json, then the archive."""
    runtime, precision = folder.name.rsplit("-", 1)
    with fresh_folder(folder) as temporary:
        built = backend(runtime).build(inputs.onnx, temporary, precision=precision, imgsz=about["imgsz"])
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
            provenance={"onnx_sha256": sha256(inputs.onnx), "versions": versions()},
            **about,
        )
        with Detector(Bundle(folder=temporary, spec=spec)) as detector:
            make_selfcheck(temporary, inputs.images[:SELFCHECK_IMAGES], detector)
        device_wheel.write(temporary)
        write_bundle_json(temporary, spec)
    open_bundle(folder)
    pack(folder, archive_of(folder))
