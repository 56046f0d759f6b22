"""The Python API: ``yolo_slim.run`` and one function a stage, with the options of the command line as arguments.

Every function returns paths and raises :class:`~yolo_slim.errors.SlimError` for what a user can solve. The arguments of
each are in :mod:`yolo_slim.config.options`; None means "not given". Every other setting goes through ``settings``,
by its key in docs/configuration.md: ``{"prune.steps": 2}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import Unpack

from yolo_slim import pipeline
from yolo_slim.comparison import run as comparison
from yolo_slim.comparison.methods import DEFAULT_METHODS
from yolo_slim.comparison.output import Outcome as CompareOutcome
from yolo_slim.comparison.request import CompareRequest
from yolo_slim.config import targets
from yolo_slim.config.commands import CompareConfig, QuantizeFiles, ValidateFiles
from yolo_slim.config.merge import merged, own_options, run_config
from yolo_slim.config.options import (
    AnyOptions,
    BlockCostsOptions,
    CompareOptions,
    ExportOptions,
    PruneOptions,
    QuantizeOptions,
    RecoverOptions,
    RunOptions,
    ValidateOptions,
)
from yolo_slim.config.run import RecoverConfig, RunConfig
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import digest, load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import sha256
from yolo_slim.models import checkpoint
from yolo_slim.pipeline import Outcome, selfcheck_images
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.plan_edits import LayerDifference, differences
from yolo_slim.quantization.graph import layout_of
from yolo_slim.stages import block_costs as block_costs_stage
from yolo_slim.stages import build as build_stage
from yolo_slim.stages import export as export_stage
from yolo_slim.stages import prune as prune_stage
from yolo_slim.stages import quantize as quantize_stage
from yolo_slim.stages import recover as recover_stage
from yolo_slim.stages import validate as validate_stage
from yolo_slim.training.arguments import RecoverInputs
from yolo_slim.workspace.folder import claim, default_name, held, locked, read_run, require_own
from yolo_slim.workspace.job import read_manifest

PathLike = str | Path


def make_config(model: PathLike, data: PathLike, **options: Unpack[AnyOptions]) -> RunConfig:
    """Merge a file, settings by key and short arguments into one checked configuration; the later wins.

    Raises:
        SlimError: every unknown key and impossible value at once.
    """
    return merged(model, data, options)


def run(
    model: PathLike,
    data: PathLike,
    *,
    project: PathLike = "runs/slim",
    name: str | None = None,
    retrain: bool = False,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[RunOptions],
) -> Outcome:
    """Run the whole chain: ``run("best.pt", "data.yaml", target="rpi5", imgsz=320, prune=.5, epochs=30)``."""
    chosen = run_config(model, data, "run", options)
    call = Call(command=command, progress=progress or Silent(), retrain=retrain)
    return _run_chain(chosen, Path(project), name, call)


def compare(
    model: PathLike,
    data: PathLike,
    *,
    project: PathLike = "runs/compare",
    name: str | None = None,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[CompareOptions],
) -> CompareOutcome:
    """Compare pruning with every simpler way to as few MACs: ``compare("best.pt", "data.yaml", seeds=3, epochs=30)``.

    See docs/compare.md.
    """
    chosen, asked = run_config(model, data, "compare", options), own_options(CompareConfig, options)
    request = CompareRequest(
        config=chosen,
        methods=DEFAULT_METHODS if asked.methods is None else asked.methods,
        removed=[chosen.prune.macs_removed or 0.5] if asked.prune is None else asked.prune,
        seeds=list(range(asked.seeds)) if isinstance(asked.seeds, int) else asked.seeds,
        runtimes=asked.runtimes,
        project=Path(project),
        name=name,
        measured=[Path(path) for path in asked.measured],
        command=command,
    )
    return comparison.run(request, progress)


def _stage(out: PathLike | None, config: RunConfig, stage: str) -> Path:
    """Return the folder of a stage that runs alone: the one given, else its place in the run of these settings."""
    return Path(out or f"runs/slim/{default_name(config)}/{stage}")


@contextmanager
def _held(folder: Path, config: RunConfig, *, in_run: bool) -> Iterator[Path]:
    """Hold that folder; a place in a run is claimed with the run, so that no other model's is overwritten."""
    if not in_run:
        with held(folder):
            yield folder
        return
    with locked(folder.parent, require_own):
        claim(folder.parent, config)
        yield folder


def _is_run_of(folder: Path, model: Path) -> bool:
    """Tell whether a folder holds a run of a model."""
    return read_run(folder).get("model_sha256") == sha256(model)


def _require_one_teacher(config: RecoverConfig, teacher: Path) -> None:
    """Raise where settings name another teacher than the argument."""
    if config.teacher and sha256(Path(config.teacher)) != sha256(teacher):
        raise SlimError(
            f"Two teachers are given: {teacher}, and {config.teacher} by recover.teacher.",
            remedy="Give the one that shall teach as --teacher, and leave recover.teacher out.",
        )


def _recovery_place(out: PathLike | None, weights: Path, teacher: Path, config: RunConfig) -> Path:
    """Return a recovery's folder: the one given, its place in the run that both checkpoints are of, else its own."""
    if out:
        return Path(out)
    run = weights.resolve().parent.parent
    if weights.resolve().parent.name == "prune" and _is_run_of(run, teacher):
        _require_same_data(run, config)
        return run / "recover"
    return Path(f"runs/slim/{weights.stem}-{Path(config.target).stem}-{config.imgsz}-recover")


def _require_same_data(run: Path, config: RunConfig) -> None:
    """Raise where a run has another data set or input side: its recovery would be trained anew over the old one."""
    there = read_run(run)
    old = {"data": there.get("data"), "imgsz": there.get("config", {}).get("imgsz", config.imgsz)}
    new = {"data": str(Path(config.data).resolve()), "imgsz": config.imgsz}
    if differing := [f"{key}: {old[key]} there, {new[key]} now" for key in old if old[key] != new[key]]:
        raise SlimError(
            f"{run} holds these weights' run with other settings.",
            culprits=differing,
            remedy="Give the run's own, or choose a folder (--out).",
        )


def _require_same_export(folder: Path, weights: Path) -> None:
    """Raise where the place that nobody chose has the export of other weights."""
    whose = read_manifest(folder).get("inputs", {}).get("weights")
    if whose and whose != sha256(weights):
        raise SlimError(
            f"{folder} holds the export of other weights than {weights}.", remedy="Choose a folder (--out)."
        )


def prune(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    retrain: bool = False,
    progress: Progress | None = None,
    **options: Unpack[PruneOptions],
) -> prune_stage.PruneOutputs:
    """Prune a checkpoint into a folder."""
    chosen = run_config(model, data, "prune", options)
    place, call = _stage(out, chosen, "prune"), Call(progress=progress or Silent(), retrain=retrain)
    prepared = _prepare(chosen, place, call, tasks=checkpoint.TASKS)
    with _held(place, chosen, in_run=not out) as folder:
        return _run_prune(prepared, folder, call)


def block_costs(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[BlockCostsOptions],
) -> block_costs_stage.BlockCostsOutputs:
    """Measure what each block costs in mAP and saves in milliseconds when it alone loses ``removed`` of its channels.

    The table that it writes is what ``prune.scope: block_costs`` reads.
    """
    chosen = run_config(model, data, "block_costs", options)
    name = f"{Path(chosen.model).stem}-{Path(chosen.target).stem}-{chosen.imgsz}-block-costs"
    folder, call = Path(out or f"runs/slim/{name}"), Call(command=command, progress=progress or Silent())
    prepared = _prepare(chosen, folder, call)
    with held(folder):
        return _run_block_costs(prepared, folder, call)


def make_plan(
    model: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    progress: Progress | None = None,
    **options: Unpack[PruneOptions],
) -> prune_stage.PlanOutputs:
    """Write the plan and the table of widths that :func:`prune` would, but no weights."""
    chosen, call = run_config(model, data, "prune", options), Call(progress=progress or Silent())
    prepared = _prepare(chosen, Path(out), call, tasks=checkpoint.TASKS)
    with held(Path(out)):
        return _run_dry(prepared, Path(out), call)


def apply_plan(
    plan: PathLike, model: PathLike, data: PathLike, out: PathLike, *, progress: Progress | None = None
) -> prune_stage.PruneOutputs:
    """Prune a checkpoint by a plan, hand-edited or not; ``data`` re-estimates the batch-normalisation statistics."""
    loaded, dataset = checkpoint.load(Path(model), checkpoint.TASKS), load_dataset(Path(data))
    check_dataset(dataset, model_names=loaded.names, task=loaded.task)
    with held(Path(out)):
        return prune_stage.replay(
            prune_stage.PruneInputs(model=Path(model), data=Path(data)),
            Path(plan),
            Path(out),
            data_digest=digest(dataset),
            progress=progress,
        )


def diff_plans(first: PathLike, second: PathLike) -> list[LayerDifference]:
    """The layers that two plans of one model treat differently, by the channels that their files list.

    A hand edit can change more layers than it names; only :func:`apply_plan`, which has the model, finds those.
    """
    return differences(PrunePlan.load(Path(first)), PrunePlan.load(Path(second)))


def recover(
    weights: PathLike,
    teacher: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    retrain: bool = False,
    progress: Progress | None = None,
    **options: Unpack[RecoverOptions],
) -> recover_stage.RecoverOutputs:
    """Train a pruned checkpoint back.

    Without ``out``, a run's ``prune/pruned.pt`` is recovered into that run if its teacher is the run's own model. A
    finished recovery there is not replaced by one with other settings.
    """
    chosen = run_config(teacher, data, "recover", options)
    place = _recovery_place(out, Path(weights), Path(teacher), chosen)
    call = Call(progress=progress or Silent(), retrain=retrain)
    prepared = _prepare(chosen, place, call, tasks=checkpoint.TASKS)
    _require_one_teacher(chosen.recover, Path(teacher))
    with held(place):
        return _run_recover(prepared, Path(weights), place, call, replace=out is not None)


def export(
    weights: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[ExportOptions],
) -> export_stage.ExportOutputs:
    """Export a checkpoint to ONNX."""
    chosen, call = run_config(weights, data, "export", options), Call(progress=progress or Silent())
    folder = _stage(out, chosen, "export")
    with held(folder):
        if not out:
            _require_same_export(folder, Path(weights))
        return _run_export(chosen, folder, call)


def quantize(
    onnx: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    imgsz: int | None = None,
    progress: Progress | None = None,
    **options: Unpack[QuantizeOptions],
) -> quantize_stage.QuantizeOutputs:
    """Make the int8 and fp16 graphs of an exported ONNX file, calibrated on training images."""
    files, call = own_options(QuantizeFiles, options), Call(progress=progress or Silent())
    chosen = run_config(onnx, data, "quantize", options, imgsz=imgsz or layout_of(Path(onnx))["imgsz"][0])
    dataset = load_dataset(Path(data))
    if "int8" in files.precisions:
        check_dataset(dataset, need=() if files.calibration else ("train",), deep=False)
    with held(Path(out)):
        return _run_quantize(chosen, files, Path(out), call)


def build(
    onnx: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    target: str | None = None,
    quantized: PathLike | None = None,
    progress: Progress | None = None,
) -> build_stage.BuildOutputs:
    """Make the bundles of a target from an exported ONNX file and the folder that :func:`quantize` wrote."""
    images = selfcheck_images(load_dataset(Path(data)))
    graphs = quantize_stage.graphs_in(Path(quantized)) if quantized else {}
    inputs = build_stage.BuildInputs(onnx=Path(onnx), images=images, graphs=graphs)
    profile = targets.load(target or RunConfig.model_fields["target"].default)
    with held(Path(out)):
        return build_stage.run(inputs, profile, Path(out), name=Path(onnx).stem, progress=progress)


def validate(
    bundles: Mapping[str, PathLike],
    control: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[ValidateOptions],
) -> validate_stage.ValidateOutputs:
    """Measure bundles (``{"slim/ncnn-fp16": folder}``) and weights, and judge them by a target's gates."""
    chosen, files = run_config(control, data, "validate", options), own_options(ValidateFiles, options)
    call = Call(command=command, progress=progress or Silent())
    prepared = _prepare(chosen, Path(out), call)
    inputs = _validate_inputs(prepared, bundles, files)
    with held(Path(out)):
        return _run_validate(prepared, inputs, Path(out), call)


@dataclass(frozen=True, kw_only=True)
class Call:
    """How one call works, apart from its settings."""

    command: str = ""
    """Command line, for the record; empty from Python."""
    progress: Progress = field(default_factory=Silent)
    retrain: bool = False
    """Train again where a finished training is kept although package versions have changed."""


def _run_chain(config: RunConfig, project: Path, name: str | None, call: Call) -> Outcome:
    """Run all stages."""
    return pipeline.run(config, project=project, name=name, command=call.command, progress=call.progress)


def _prepare(
    config: RunConfig, folder: Path, call: Call, *, tasks: Sequence[str] = checkpoint.DETECTION
) -> pipeline.Run:
    """Check every input of a stage that runs alone."""
    return pipeline.prepare(config, folder, command=call.command, progress=call.progress, tasks=tasks)


def _run_prune(prepared: pipeline.Run, folder: Path, call: Call) -> prune_stage.PruneOutputs:
    """Run the prune stage."""
    config = prepared.config
    return prune_stage.run(
        prune_stage.PruneInputs(model=prepared.model, data=prepared.data),
        config.prune,
        folder,
        imgsz=config.imgsz,
        seed=config.seed,
        end2end=config.export.end2end,
        training=config.recover,
        data_digest=prepared.data_digest,
        progress=call.progress,
    )


def _run_dry(prepared: pipeline.Run, folder: Path, call: Call) -> prune_stage.PlanOutputs:
    """Run the prune stage without cutting."""
    config = prepared.config
    return prune_stage.dry_run(
        prune_stage.PruneInputs(model=prepared.model, data=prepared.data),
        config.prune,
        folder,
        imgsz=config.imgsz,
        seed=config.seed,
        end2end=config.export.end2end,
        progress=call.progress,
    )


def _run_block_costs(prepared: pipeline.Run, folder: Path, call: Call) -> block_costs_stage.BlockCostsOutputs:
    """Measure all blocks."""
    config = prepared.config
    return block_costs_stage.run(
        block_costs_stage.BlockCostsInputs(model=prepared.model, data=prepared.data),
        config.block_costs,
        config.prune,
        prepared.profile,
        folder,
        imgsz=config.imgsz,
        seed=config.seed,
        end2end=config.export.end2end,
        command=call.command,
        data_digest=prepared.data_digest,
        progress=call.progress,
    )


def _run_recover(
    prepared: pipeline.Run, weights: Path, folder: Path, call: Call, *, replace: bool
) -> recover_stage.RecoverOutputs:
    """Run the recover stage; the configuration's model is the teacher."""
    config = prepared.config
    return recover_stage.run(
        RecoverInputs(weights=weights, teacher=prepared.model, data=prepared.data),
        config.recover,
        folder,
        imgsz=config.imgsz,
        seed=config.seed,
        end2end=config.export.end2end,
        data_digest=prepared.data_digest,
        replace=replace,
        progress=call.progress,
    )


def _run_export(config: RunConfig, folder: Path, call: Call) -> export_stage.ExportOutputs:
    """Run the export stage; the configuration's model is what is exported."""
    return export_stage.run(
        export_stage.ExportInputs(weights=Path(config.model), data=Path(config.data)),
        config.export,
        folder,
        imgsz=config.imgsz,
        data_digest=digest(load_dataset(Path(config.data))),
        progress=call.progress,
    )


def _run_quantize(config: RunConfig, files: QuantizeFiles, folder: Path, call: Call) -> quantize_stage.QuantizeOutputs:
    """Run the quantize stage; the configuration's model is the ONNX file."""
    return quantize_stage.run(
        quantize_stage.QuantizeInputs(
            onnx=Path(config.model),
            trained=_path(files.trained),
            data=Path(config.data),
            calibration=_path(files.calibration),
        ),
        config.quantize,
        folder,
        imgsz=config.imgsz,
        seed=config.seed,
        precisions=files.precisions,
        data_digest=digest(load_dataset(Path(config.data))),
        progress=call.progress,
    )


def _validate_inputs(
    prepared: pipeline.Run, bundles: Mapping[str, PathLike], files: ValidateFiles
) -> validate_stage.ValidateInputs:
    """What the validate stage measures."""
    return validate_stage.ValidateInputs(
        control=prepared.model,
        data=prepared.data,
        bundles={key: Path(folder) for key, folder in bundles.items()},
        pruned=_path(files.pruned),
        recovered=_path(files.recovered),
        onnx=_path(files.onnx),
        layer_errors=quantize_stage.layer_errors_in(Path(files.quantized)) if files.quantized else None,
    )


def _run_validate(
    prepared: pipeline.Run, inputs: validate_stage.ValidateInputs, folder: Path, call: Call
) -> validate_stage.ValidateOutputs:
    """Run the validate stage."""
    return validate_stage.run(
        inputs,
        prepared.config.validate_,
        prepared.profile,
        folder,
        imgsz=prepared.config.imgsz,
        name=folder.name,
        command=call.command,
        data_digest=prepared.data_digest,
        progress=call.progress,
    )


def _path(text: str | None) -> Path | None:
    """A path where one is given."""
    return Path(text) if text else None
