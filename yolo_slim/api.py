"""The Python API: ``yolo_slim.run`` and one function a stage, with the options of the command line as arguments.

Every function returns paths and raises :class:`~yolo_slim.errors.SlimError` for what a user can solve. The arguments of
each are in :mod:`yolo_slim.config.options`; None means "not given". Every other setting goes through ``settings``,
by its key in docs/configuration.md: ``{"prune.steps": 2}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Unpack

from yolo_slim import pipeline, single_stage
from yolo_slim.config.commands import CompareConfig, QuantizeFiles, RunChoices, ValidateFiles
from yolo_slim.config.merge import merged, own_options, run_config
from yolo_slim.config.options import (
    AnyOptions,
    BlockCostsOptions,
    CompareOptions,
    ExportOptions,
    LatencyOptions,
    PruneOptions,
    QuantizeOptions,
    RecoverOptions,
    RunOptions,
    ValidateOptions,
)
from yolo_slim.config.run import RunConfig
from yolo_slim.devices.inventory import target_of
from yolo_slim.pipeline import Outcome
from yolo_slim.progress import Progress, Silent
from yolo_slim.single_stage import Call

if TYPE_CHECKING:
    from yolo_slim.comparison.output import Outcome as CompareOutcome
    from yolo_slim.measuring.latency import LatencyOutputs
    from yolo_slim.pruning.outputs import PruneOutputs
    from yolo_slim.pruning.plan_edits import LayerDifference
    from yolo_slim.stages.block_costs import BlockCostsOutputs
    from yolo_slim.stages.build import BuildOutputs
    from yolo_slim.stages.export import ExportOutputs
    from yolo_slim.stages.plan import PlanOutputs
    from yolo_slim.stages.quantize import QuantizeOutputs
    from yolo_slim.stages.recover import RecoverOutputs
    from yolo_slim.stages.validate import ValidateOutputs

PathLike = str | Path


def make_config(model: PathLike, data: PathLike, **options: Unpack[AnyOptions]) -> RunConfig:
    """Merge a file, settings by key and short arguments into one checked configuration; the later wins.

    Raises:
        SlimError: every unknown key and impossible value at once.
    """
    return merged(model, data, options, target_of)


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
    side = own_options(RunChoices, options).imgsz
    given = {} if side in (None, "auto") else {"imgsz": side}
    chosen = run_config(model, data, "run", options, target_of, **given)
    sides = None
    if side == "auto":
        from yolo_slim.exploration import choose_side

        best, sides = choose_side(chosen, project=Path(project), command=command, progress=progress, retrain=retrain)
        chosen = chosen.model_copy(update={"imgsz": best})
    return pipeline.run(
        chosen, project=Path(project), name=name, command=command, progress=progress, retrain=retrain, sides=sides
    )


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
    from yolo_slim.comparison import run as comparison
    from yolo_slim.comparison.methods import DEFAULT_METHODS, TO_MACS
    from yolo_slim.comparison.request import CompareRequest

    chosen, asked = run_config(model, data, "compare", options, target_of), own_options(CompareConfig, options)
    in_ms = chosen.prune.frame_ms is not None
    request = CompareRequest(
        config=chosen,
        methods=((TO_MACS,) if in_ms else DEFAULT_METHODS) if asked.methods is None else asked.methods,
        removed=([] if in_ms else [chosen.prune.macs_removed or 0.5]) if asked.prune is None else asked.prune,
        seeds=list(range(asked.seeds)) if isinstance(asked.seeds, int) else asked.seeds,
        runtimes=asked.runtimes,
        project=Path(project),
        name=name,
        measured=[Path(path) for path in asked.measured],
        command=command,
    )
    return comparison.run(request, progress)


def prune(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    retrain: bool = False,
    progress: Progress | None = None,
    **options: Unpack[PruneOptions],
) -> PruneOutputs:
    """Prune a checkpoint into a folder."""
    chosen = run_config(model, data, "prune", options, target_of)
    return single_stage.run_prune(_call(chosen, out, progress, retrain=retrain))


def block_costs(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[BlockCostsOptions],
) -> BlockCostsOutputs:
    """Measure what each block costs in mAP and saves in milliseconds when it alone loses ``removed`` of its channels.

    The table that it writes is what ``prune.scope: block_costs`` reads.
    """
    chosen = run_config(model, data, "block_costs", options, target_of)
    return single_stage.run_block_costs(_call(chosen, out, progress, command=command))


def latency(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[LatencyOptions],
) -> LatencyOutputs:
    """Measure on the device how long a model's layers take: the tables that ``target_fps`` and ``latency_ms`` need."""
    chosen = run_config(model, data, "latency", options, target_of)
    return single_stage.run_latency(_call(chosen, out, progress, command=command))


def make_plan(
    model: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    progress: Progress | None = None,
    **options: Unpack[PruneOptions],
) -> PlanOutputs:
    """Write the plan and the table of widths that :func:`prune` would, but no weights."""
    chosen = run_config(model, data, "prune", options)
    return single_stage.make_plan(_call(chosen, out, progress), Path(out))


def apply_plan(
    plan: PathLike, model: PathLike, data: PathLike, out: PathLike, *, progress: Progress | None = None
) -> PruneOutputs:
    """Prune a checkpoint by a plan, hand-edited or not; ``data`` re-estimates the batch-normalisation statistics."""
    chosen = merged(model, data, {})
    return single_stage.apply_plan(_call(chosen, out, progress), Path(plan), Path(out))


def diff_plans(first: PathLike, second: PathLike) -> list[LayerDifference]:
    """The layers that two plans of one model treat differently, by the channels that their files list.

    A hand edit can change more layers than it names; only :func:`apply_plan`, which has the model, finds those.
    """
    from yolo_slim.pruning.plan import PrunePlan
    from yolo_slim.pruning.plan_edits import differences

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
) -> RecoverOutputs:
    """Train a pruned checkpoint back.

    Without ``out``, a run's ``prune/pruned.pt`` is recovered into that run if its teacher is the run's own model. A
    finished recovery there is not replaced by one with other settings.
    """
    chosen = run_config(teacher, data, "recover", options)
    return single_stage.run_recover(_call(chosen, out, progress, retrain=retrain), Path(weights))


def export(
    weights: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[ExportOptions],
) -> ExportOutputs:
    """Export a checkpoint to ONNX."""
    return single_stage.run_export(_call(run_config(weights, data, "export", options), out, progress))


def quantize(
    onnx: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    imgsz: int | None = None,
    progress: Progress | None = None,
    **options: Unpack[QuantizeOptions],
) -> QuantizeOutputs:
    """Make the int8 and fp16 graphs of an exported ONNX file, calibrated on training images."""
    from yolo_slim.models.exported import layout_of
    from yolo_slim.stages.quantize import QuantizeInputs

    files = own_options(QuantizeFiles, options)
    chosen = run_config(onnx, data, "quantize", options, imgsz=imgsz or layout_of(Path(onnx)).imgsz[0])
    inputs = QuantizeInputs(onnx=Path(onnx), trained=_path(files.trained), calibration=_path(files.calibration))
    return single_stage.run_quantize(_call(chosen, out, progress), inputs, files.precisions)


def build(
    onnx: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    target: str | None = None,
    quantized: PathLike | None = None,
    progress: Progress | None = None,
) -> BuildOutputs:
    """Make the bundles of a target from an exported ONNX file and the folder that :func:`quantize` wrote."""
    chosen = merged(onnx, data, {"target": target})
    return single_stage.run_build(_call(chosen, out, progress), Path(onnx), Path(quantized) if quantized else None)


def validate(
    bundles: Mapping[str, PathLike],
    control: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    command: str = "",
    progress: Progress | None = None,
    **options: Unpack[ValidateOptions],
) -> ValidateOutputs:
    """Measure bundles (``{"slim/ncnn-fp16": folder}``) and weights, and judge them by a target's gates."""
    from yolo_slim.build_key import BuildKey
    from yolo_slim.stages.quantize import finished_in
    from yolo_slim.stages.validate import ValidateInputs

    chosen, files = run_config(control, data, "validate", options, target_of), own_options(ValidateFiles, options)
    inputs = ValidateInputs(
        control=Path(control),
        bundles={BuildKey.parse(key): Path(folder) for key, folder in bundles.items()},
        pruned=_path(files.pruned),
        recovered=_path(files.recovered),
        onnx=_path(files.onnx),
        layer_errors=finished_in(Path(files.quantized)).layer_errors if files.quantized else None,
    )
    return single_stage.run_validate(_call(chosen, out, progress, command=command), inputs)


def _call(
    config: RunConfig, out: PathLike | None, progress: Progress | None, *, command: str = "", retrain: bool = False
) -> Call:
    """Put a call of one stage together."""
    place = Path(out) if out else None
    return Call(config=config, out=place, command=command, progress=progress or Silent(), retrain=retrain)


def _path(text: str | None) -> Path | None:
    """A path where one is given."""
    return Path(text) if text else None
