"""The whole chain, and the only place that knows the order of its stages.

A run lives in one folder (``runs/slim/NAME``). What is up to date is skipped, what is stale is made again, and an
interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from yolo_slim import latency_tables, uncut
from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import os_errors_explained
from yolo_slim.export.builds import archive_of, graph_of, precisions_needed
from yolo_slim.input_check import check_then_make, require_calibration, require_good_inputs
from yolo_slim.measuring.latency import LatencyOutputs
from yolo_slim.preparation import Run, default_name, owner_of, prepared
from yolo_slim.progress import Progress
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.quantization import layer_errors
from yolo_slim.quantization.files import INT8, TENSORRT_INT8
from yolo_slim.stages import build, control, emulate, export, prune, quantize, recover, unpruned, validate
from yolo_slim.stages.context import Context
from yolo_slim.training.settings import teacher_of
from yolo_slim.workspace.folder import claimed

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run produced."""

    folder: Path
    verdict: str
    """``pass``, ``fail`` or ``unproven``."""
    result: Path
    """``result.json``."""
    report: Path
    """``report.html``."""
    bundle: Path | None
    """The winning bundle's .tar.gz; None when no build is inside the accuracy budget."""


def run(
    config: RunConfig,
    *,
    project: Path = Path("runs/slim"),
    name: str | None = None,
    command: str = "",
    progress: Progress | None = None,
    retrain: bool = False,
    sides: Path | None = None,
) -> Outcome:
    """Prune, recover, export, quantize, build and validate.

    Args:
        config: what is run, and how.
        project: folder of all runs.
        name: folder of this one in it; absent: from the settings.
        command: command line, for the record.
        progress: listener.
        retrain: train again what only an update of a package made stale.
        sides: ``sides.json``, where the input side was chosen for a frame rate.

    Raises:
        SlimError: anything wrong with the inputs, found before the first stage; or with the folder.
    """
    folder = project / (name or default_name(config))
    this = prepared(config, folder, command=command, progress=progress, retrain=retrain, runs_bundles=True)

    def check() -> None:
        from yolo_slim.training.arguments import require_plain_path  # here, because it imports torch

        require_plain_path(folder)
        emulate.require_ready(config.emulate, this.context.profile)
        latency_tables.require_measurable(this)
        require_good_inputs(this)
        require_calibration(this)

    with closing(this.context.device), claimed(folder, owner_of(config, command)), os_errors_explained(folder):
        return check_then_make(
            this.context, lambda context: _chain(replace(this, context=context), project, sides), check
        )


def _chain(this: Run, project: Path, sides: Path | None) -> Outcome:
    """Run the stages in order; ``project`` is the folder of all runs, ``sides`` says how the input side was chosen."""
    config, folder, context = this.config, this.folder, this.context
    control_check = control.run(this.model, config.validate_, folder / "control", context)
    slimmed = _slimmed(this, latency_tables.for_budget(this, project, kept_float(this)))
    control_built = _built_control(this)
    slim = _built(this, "slim", slimmed.weights, control_built.calibration)
    bundles = _by_model(control_built.bundles, slim.bundles)
    emulated = emulate.run(bundles, config.emulate, config.validate_, folder / "emulate", context)
    outputs = validate.run(
        validate.ValidateInputs(
            control=this.model,
            control_check=control_check,
            pruned=slimmed.pruned,
            recovered=slimmed.recovered,
            latency=slimmed.latency,
            sides=sides,
            onnx=slim.onnx,
            layer_errors=slim.layer_errors,
            bundles=bundles,
            skipped=_by_model(control_built.skipped, slim.skipped),
            preflight=slim.preflight,
            emulated=emulated,
        ),
        config.validate_,
        folder / "validate",
        context,
        name=folder.name,
    )
    return Outcome(
        folder=folder,
        verdict=outputs.verdict,
        result=outputs.result,
        report=outputs.report,
        bundle=None if outputs.bundle is None else archive_of(outputs.bundle),
    )


@dataclass(frozen=True, kw_only=True)
class Slimmed:
    """What became of the user's weights."""

    weights: Path
    """What is exported."""
    pruned: Path | None = None
    recovered: Path | None = None
    latency: Path | None = None
    """Budget, prediction and measurement of a cut to milliseconds."""


def _slimmed(this: Run, tables: LatencyOutputs | None) -> Slimmed:
    """Prune and recover; where the unpruned network is as fast as asked for, only another activation is trained."""
    config, folder = this.config, this.folder
    inputs = prune.PruneInputs(model=this.model, training=config.recover, latency=tables, timing=config.latency)

    def cut(context: Context) -> PruneOutputs:
        return prune.run(inputs, config.prune, folder / "prune", context, recovery=folder / "recover")

    if tables and uncut.is_enough(this, tables, cut, in_int8(this)):
        return _uncut(this)
    pruned = cut(this.context)
    trained = _recovered(this, pruned.weights)
    return Slimmed(
        weights=trained, pruned=pruned.weights, recovered=trained,
        latency=None if tables is None else pruned.latency,
    )  # fmt: skip


def _uncut(this: Run) -> Slimmed:
    """The unpruned network: as it is, or trained with the activation that was asked for."""
    if this.config.recover.activation == "none":
        return Slimmed(weights=this.model)
    trained = _recovered(this, this.model)
    return Slimmed(weights=trained, recovered=trained)


def _recovered(this: Run, start: Path) -> Path:
    """Train weights."""
    inputs = recover.RecoverInputs(weights=start, teacher=teacher_of(this.config.recover, this.model))
    return recover.run(inputs, this.config.recover, this.folder / "recover", this.context).weights


def in_int8(this: Run) -> uncut.InInt8:
    """What the unpruned network's int8 bundle says of a run to milliseconds."""
    return uncut.InInt8(reached=lambda: _reached_in_int8(this), too_much=lambda: _too_much_in_int8(this))


def names_int8(this: Run) -> bool:
    """Whether the cut to milliseconds is made for an int8 build that yolo_slim quantizes."""
    if this.config.prune.frame_ms is None:
        return False
    quantized = [build for build in this.context.profile.builds if graph_of(build) in (INT8, TENSORRT_INT8)]
    return any(this.config.latency.runtime == str(build) for build in quantized)


def kept_float(this: Run) -> tuple[str, ...]:
    """The layers that stay float in the unpruned network's int8 graph, where the cut is made for int8.

    Cuts are timed with these layers in float: otherwise the bundle would be slower than the cut was.
    """
    errors = _built_control(this).layer_errors if names_int8(this) else None
    return () if errors is None else layer_errors.kept_float(errors)


def int8_drop(this: Run) -> float | None:
    """mAP50-95 that int8 takes from the unpruned network, where the cut is made for int8; None: not known.

    It isn't known where another activation has to be trained first.
    """
    is_asked = names_int8(this) and this.config.recover.activation == "none"
    errors = _built_control(this).layer_errors if is_asked else None
    return None if errors is None else unpruned.drop_in(errors)


def _too_much_in_int8(this: Run) -> str:
    """What int8 loses, if it is named and that is too much."""
    drop, most = int8_drop(this), this.config.quantize.max_drop
    if drop is None and this.config.latency.runtime and this.config.latency.runtime.endswith("-int8"):
        this.context.progress.say(
            f"prune: what {this.config.latency.runtime} loses isn't known before the end: it wasn't measured on check "
            "images of the unpruned network"
        )
    if drop is None or drop <= most:
        return ""
    return f"int8 loses {drop:.4f} mAP50-95 there, and quantize.max_drop is {most:g}"


def _reached_in_int8(this: Run) -> str:
    """How the unpruned network reaches the budget in int8; empty: it doesn't, or the settings name another build."""
    config, found = this.config, unpruned_in_int8(this)
    if found is None or config.prune.frame_ms is None:
        return ""
    takes = f"takes {found.frame_ms:.2f} ms a frame in {unpruned.BUILD}"
    why_not = found.why_not(config.prune.frame_ms, config.quantize.max_drop)
    if why_not:
        this.context.progress.say(f"prune: the unpruned network {takes}; it is cut, because {why_not}")
    return "" if why_not else takes


def unpruned_in_int8(this: Run) -> unpruned.Unpruned | None:
    """Time the unpruned network in int8.

    None: no budget in milliseconds asks for it, there is no such bundle, or another activation has to be trained first.
    """
    config, context = this.config, this.context
    is_asked = config.prune.frame_ms is not None and not config.latency.runtime and config.recover.activation == "none"
    if not is_asked or unpruned.BUILD not in context.profile.builds:
        return None
    control = _built_control(this)
    bundle = control.bundles.get(unpruned.BUILD)
    if bundle is None or control.layer_errors is None:
        return None
    inputs = unpruned.UnprunedInputs(bundle=bundle, layer_errors=control.layer_errors)
    return unpruned.run(inputs, config.latency, this.folder / "unpruned", context)


def _by_model(control: Mapping[BuildName, Value], slim: Mapping[BuildName, Value]) -> dict[BuildKey, Value]:
    """Join what belongs to the builds of the control and of the slim model."""
    return {BuildKey("control", build): value for build, value in control.items()} | {
        BuildKey("slim", build): value for build, value in slim.items()
    }


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was made of one model's weights."""

    weights: Path
    onnx: Path
    calibration: Path | None
    layer_errors: Path | None
    bundles: dict[BuildName, Path]
    skipped: dict[BuildName, str]
    preflight: dict[BuildName, object]


def trained_and_built(this: Run, start: Path, kind: str, *, seed: int | None) -> Built:
    """Recover weights (with no seed: don't), export them, and build their bundles."""
    weights = start
    if seed is not None:
        context = replace(this.context, seed=seed)
        inputs = recover.RecoverInputs(weights=start, teacher=this.model)
        weights = recover.run(inputs, this.config.recover, this.folder / "recover", context).weights
    return _built(this, kind, weights, None)


def _built_control(this: Run) -> Built:
    """The unpruned network's bundles."""
    return _built(this, "control", this.model, None)


def _built(this: Run, kind: str, weights: Path, calibration: Path | None) -> Built:
    """Export, quantize and build one model's weights; all graphs of a run share one ``calibration``."""
    config, folder, context = this.config, this.folder, replace(this.context, network=kind)
    exported = export.run(weights, config.export, folder / "export" / kind, context)
    quantized = None
    if precisions := precisions_needed(context.profile):
        inputs = quantize.QuantizeInputs(onnx=exported.onnx, trained=exported.trained_int8, calibration=calibration)
        place = folder / "quantize" / kind
        quantized = quantize.run(inputs, config.quantize, place, context, precisions=precisions)
    built = build.run(
        build.BuildInputs(
            onnx=exported.onnx,
            images=build.selfcheck_images(context.dataset),
            graphs=quantized.graphs if quantized else {},
        ),
        folder / "build" / kind,
        context,
        name=f"{this.model.stem}-{kind}",
    )
    return Built(
        weights=weights,
        onnx=exported.onnx,
        calibration=quantized.calibration if quantized else None,
        layer_errors=quantized.layer_errors if quantized else None,
        bundles=built.bundles,
        skipped=built.skipped,
        preflight=built.preflight,
    )
