"""Weights and bundles -> result.json, report.html, verdict: the accuracy ladder, speed, the gates of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.record import Kind, read_record
from yolo_slim.config.run import ValidateConfig
from yolo_slim.devices import device_wheel
from yolo_slim.devices.base import identity
from yolo_slim.files import read_json, sha256_json
from yolo_slim.measuring.control_check import ControlCheck
from yolo_slim.measuring.emulated import Emulated
from yolo_slim.measuring.images import choose_split as choose_split
from yolo_slim.measuring.images import scored_images
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.measuring.measure import measure
from yolo_slim.measuring.networks import Networks, Setup
from yolo_slim.measuring.sides import Sides
from yolo_slim.measuring.timer import is_kept, run_on
from yolo_slim.stages.context import Context
from yolo_slim.verdict.assemble import About, assemble
from yolo_slim.verdict.result import MEASURE_AGAIN, Result
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once


@dataclass(frozen=True, kw_only=True)
class ValidateInputs(Networks):
    """What the stage reads."""

    control_check: Path | None = None
    """``control.json`` of the control stage."""
    emulated: Path | None = None
    """``emulated.json`` of the emulate stage."""
    layer_errors: Path | None = None
    """``layer_errors.json`` of the slim int8 graph, to name the layer to look at when int8 fails."""
    latency: Path | None = None
    """``latency.json`` of the prune stage."""
    sides: Path | None = None
    """``sides.json``, where the input side was chosen for a frame rate."""
    skipped: Mapping[BuildKey, str] = field(default_factory=dict)
    """Builds that weren't possible, with the reason."""
    preflight: Mapping[BuildName, object] = field(default_factory=dict)
    """What was checked ahead of builds that only the device can finish, as JSON values."""


@dataclass(frozen=True, kw_only=True)
class ValidateOutputs:
    """What the stage wrote."""

    result: Path
    """``result.json``, see docs/result.md."""
    report: Path
    """``report.html``."""
    verdict: str
    """``pass``, ``fail`` or ``unproven``."""
    bundle: Path | None
    """The winning bundle."""


REVISION = 5
"""Raised when equal inputs are scored, timed or judged otherwise; 4: a class without a scored label is no pass."""
PACKAGES = ("torch", "ultralytics", "onnxruntime", "ncnn", "MNN", "tensorrt", "numpy", "opencv-python")
"""Packages that run the networks and compute their mAP."""


def run(
    inputs: ValidateInputs, config: ValidateConfig, folder: Path, context: Context, *, name: str
) -> ValidateOutputs:
    """Measure accuracy and speed, judge by the profile, write ``result.json`` and ``report.html``.

    A result that is up to date on this device is used again, timings included, unless one of them doesn't count.
    """
    job = _job(inputs, config, folder, context, name)
    path, report = folder / "result.json", folder / "report.html"

    def make(_: None) -> Made:
        result = _measured(inputs, config, report, context, name)
        result.save(path)
        return Made(outputs=[path, report], is_lasting=_is_lasting(result, config))

    run_once(job, make, context, check=lambda: None)
    result = Result.load(path)
    bundle = inputs.bundles[result.winner] if result.winner else None
    return ValidateOutputs(result=path, report=report, verdict=result.verdict.status, bundle=bundle)


def _is_lasting(result: Result, config: ValidateConfig) -> bool:
    """Whether the next call may use a result again: every timing counts, or the user keeps those that don't."""
    timings = [build.bench for build in result.builds if build.bench]
    return all((bench.is_valid and not bench.is_disturbed) or is_kept(bench, config) for bench in timings)


def _job(inputs: ValidateInputs, config: ValidateConfig, folder: Path, context: Context, name: str) -> Job:
    """Everything that decides the result; the device too, because the timings are its own."""
    device, profile = context.device, context.profile
    here = {**identity(device), "is_target": device.is_target(profile)}
    files = {"control": inputs.control, "pruned": inputs.pruned, "recovered": inputs.recovered, "onnx": inputs.onnx}
    files |= {"control_check": inputs.control_check, "layer_errors": inputs.layer_errors, "emulated": inputs.emulated}
    files |= {"latency": inputs.latency, "sides": inputs.sides}
    digests = {key: content(path) for key, path in files.items() if path}
    digests |= {str(key): content(bundle / "bundle.json") for key, bundle in inputs.bundles.items()}
    return Job(
        stage="validate",
        folder=folder,
        settings={**config.model_dump(), "profile": profile.model_dump(), "imgsz": context.imgsz, "name": name, **here},
        inputs={
            **digests,
            "data": context.dataset.digest,
            # What runs the bundles, and what the result says of builds that weren't possible here.
            "device code": device_wheel.code_digest(),
            "skipped": sha256_json({str(build): reason for build, reason in inputs.skipped.items()}),
            "preflight": sha256_json({str(build): found for build, found in inputs.preflight.items()}),
        },
        revision=REVISION,
        packages=PACKAGES,
    )


def _measured(inputs: ValidateInputs, config: ValidateConfig, report: Path, context: Context, name: str) -> Result:
    """Measure, judge, and write the page."""
    # Here and not above: an up-to-date result is read without the packages that measure and draw.
    from yolo_slim.quantization.layer_errors import first_bad_layer
    from yolo_slim.reporting.examples import examples
    from yolo_slim.reporting.html import write_report

    setup = Setup(
        images=scored_images(context.dataset, config, report.parent),
        device=context.device, profile=context.profile, imgsz=context.imgsz, progress=context.progress,
    )  # fmt: skip
    about = About(
        name=name, command=context.command, data=context.dataset.yaml.name,
        skipped=inputs.skipped, preflight=inputs.preflight, control_check=_read(ControlCheck, inputs.control_check),
        emulated=_read(Emulated, inputs.emulated), latency=_read(LatencyCut, inputs.latency),
        sides=_read(Sides, inputs.sides),
        bad_layer=first_bad_layer(inputs.layer_errors) if inputs.layer_errors else None,
    )  # fmt: skip
    measured = measure(inputs, config, setup)
    result = _run_on(assemble(measured, inputs, setup, about), inputs, config, setup)
    write_report(report, result, examples(setup.images, measured.control, measured.slim, measured.names))
    return result


def _run_on(result: Result, inputs: ValidateInputs, config: ValidateConfig, setup: Setup) -> Result:
    """Let the winner run on for minutes where that was asked for and it was timed."""
    best = result.best
    if not config.sustained_minutes or best is None or best.bench is None:
        return result
    setup.progress.say(f"validate: {best.key} runs on for {config.sustained_minutes:g} minutes")
    found = run_on(setup.device.put(inputs.bundles[best.key]), config, setup)
    return result.with_sustained(found.sustained)


def _read(kind: type[Kind], path: Path | None) -> Kind | None:
    """Read what an earlier stage wrote."""
    return read_record(kind, read_json(path), str(path), MEASURE_AGAIN) if path else None
