"""The Python API: ``yolo_slim.run`` and one function a stage, with plain arguments.

Every function returns paths and raises :class:`~yolo_slim.errors.SlimError` for what a user can solve. Settings beyond
the named ones go through ``settings`` with the keys of docs/configuration.md: ``{"prune.steps": 2}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim import pipeline, single_stage
from yolo_slim.config import targets
from yolo_slim.config.run import RunConfig
from yolo_slim.config.strict import parse, read_yaml
from yolo_slim.errors import SlimError
from yolo_slim.pipeline import Outcome
from yolo_slim.progress import Progress, Silent
from yolo_slim.single_stage import Call
from yolo_slim.stages.quantize import PRECISIONS

if TYPE_CHECKING:
    from yolo_slim.comparison.output import Outcome as CompareOutcome
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
Settings = Mapping[str, Any] | None

SHORT = {
    "prune": "prune.macs_removed",
    "epochs": "recover.epochs",
    "device": "recover.device",
    "train": "recover.overrides",
    "teacher": "recover.teacher",
    "removed": "block_costs.removed",
    "runtime": "block_costs.runtime",
    "images": "block_costs.images",
}
"""Short argument to configuration key."""


def make_config(
    model: PathLike, data: PathLike, *, config: PathLike | None = None, settings: Settings = None, **short: Any
) -> RunConfig:
    """Return a checked configuration from a file, dotted settings and short arguments; the later wins.

    Raises:
        SlimError: every unknown key and impossible value at once.
    """
    values: dict[str, Any] = read_yaml(Path(config)) if config else {}
    values |= {"model": str(model), "data": str(data)}
    # Training arguments join those of the file one by one; they don't replace them all.
    train = {f"{SHORT['train']}.{key}": value for key, value in (short.pop("train", None) or {}).items()}
    given = {SHORT.get(key, key): value for key, value in short.items() if value is not None}
    chosen = {**(settings or {}), **given, **train}
    if problems := [problem for key, value in chosen.items() if (problem := _put(values, key, value))]:
        raise SlimError(
            "Some settings are below one that has a value.",
            culprits=problems,
            remedy="A section of the settings holds keys (docs/configuration.md); correct the file or the option.",
        )
    if "imgsz" not in values:
        values["imgsz"] = targets.load(str(values.get("target", "host"))).imgsz
    return parse(RunConfig, values, str(config or "settings"))


def _put(values: dict[str, Any], dotted: str, value: Any) -> str:
    """Set a nested value by its dotted key; return what stands in its way, empty where it is set."""
    *parents, last = dotted.split(".")
    for depth, part in enumerate(parents, 1):
        inner = values.get(part)
        if inner is not None and not isinstance(inner, Mapping):
            return f"{dotted}: {'.'.join(parents[:depth])} is {inner!r}, no section"
        values[part] = inner = dict(inner or {})
        values = inner
    values[last] = value
    return ""


def run(
    model: PathLike,
    data: PathLike,
    *,
    target: str | None = None,
    imgsz: int | None = None,
    prune: float | None = None,
    epochs: int | None = None,
    device: str | None = None,
    train: Mapping[str, Any] | None = None,
    teacher: PathLike | None = None,
    config: PathLike | None = None,
    settings: Settings = None,
    project: PathLike = "runs/slim",
    name: str | None = None,
    retrain: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Run the whole chain: ``run("best.pt", "data.yaml", target="rpi5", imgsz=320, prune=.5, epochs=30)``."""
    chosen = make_config(
        model, data, config=config, settings=settings, target=target, imgsz=imgsz, prune=prune, epochs=epochs,
        device=device, train=dict(train) if train else None, teacher=str(teacher) if teacher else None,
    )  # fmt: skip
    return pipeline.run(chosen, project=Path(project), name=name, command=command, progress=progress, retrain=retrain)


def compare(
    model: PathLike,
    data: PathLike,
    *,
    methods: Sequence[str] | None = None,
    prune: float | Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    runtimes: Sequence[str] = ("onnxruntime-fp32",),
    target: str | None = None,
    imgsz: int | None = None,
    epochs: int | None = None,
    device: str | None = None,
    train: Mapping[str, Any] | None = None,
    config: PathLike | None = None,
    settings: Settings = None,
    project: PathLike = "runs/compare",
    name: str | None = None,
    measured: Sequence[PathLike] = (),
    command: str = "",
    progress: Progress | None = None,
) -> CompareOutcome:
    """Compare pruning with every simpler way to as few MACs: ``compare("best.pt", "data.yaml", seeds=3, epochs=30)``.

    ``prune`` may be several shares; ``seeds`` is how many, or the seeds themselves; ``measured`` are results of earlier
    comparisons whose networks are imported. See docs/compare.md.
    """
    from yolo_slim.comparison import run as comparison
    from yolo_slim.comparison.methods import DEFAULT_METHODS
    from yolo_slim.comparison.request import CompareRequest

    chosen = make_config(
        model, data, config=config, settings=settings, target=target, imgsz=imgsz, epochs=epochs, device=device,
        train=dict(train) if train else None,
    )  # fmt: skip
    shares = prune if prune is not None else chosen.prune.macs_removed or 0.5
    request = CompareRequest(
        config=chosen,
        methods=DEFAULT_METHODS if methods is None else methods,
        removed=[shares] if isinstance(shares, (int, float)) else list(shares),
        seeds=list(range(seeds)) if isinstance(seeds, int) else list(seeds),
        runtimes=runtimes,
        project=Path(project),
        name=name,
        measured=[Path(path) for path in measured],
        command=command,
    )
    return comparison.run(request, progress)


def _call(
    config: RunConfig, out: PathLike | None, progress: Progress | None, *, command: str = "", retrain: bool = False
) -> Call:
    """Put a call of one stage together."""
    place = Path(out) if out else None
    return Call(config=config, out=place, command=command, progress=progress or Silent(), retrain=retrain)


def prune(
    model: PathLike, data: PathLike, out: PathLike | None = None, *, progress: Progress | None = None,
    retrain: bool = False, **arguments: Any,
) -> PruneOutputs:  # fmt: skip
    """Prune a checkpoint into a folder; arguments as of :func:`make_config`."""
    return single_stage.run_prune(_call(make_config(model, data, **arguments), out, progress, retrain=retrain))


def block_costs(
    model: PathLike, data: PathLike, out: PathLike | None = None, *, command: str = "",
    progress: Progress | None = None, **arguments: Any,
) -> BlockCostsOutputs:  # fmt: skip
    """Measure what each block costs in mAP and saves in milliseconds when it alone loses ``removed`` of its channels.

    ``prune.scope: block_costs`` prunes by the table that it writes. Arguments as of :func:`make_config`, and
    ``removed``, ``runtime`` and ``images``.
    """
    return single_stage.run_block_costs(_call(make_config(model, data, **arguments), out, progress, command=command))


def make_plan(
    model: PathLike, data: PathLike, out: PathLike, *, progress: Progress | None = None, **arguments: Any
) -> PlanOutputs:
    """Write the plan and the table of widths that :func:`prune` would, without weights; arguments as of it."""
    return single_stage.make_plan(_call(make_config(model, data, **arguments), out, progress), Path(out))


def apply_plan(
    plan: PathLike, model: PathLike, data: PathLike, out: PathLike, *, progress: Progress | None = None
) -> PruneOutputs:
    """Prune a checkpoint by a plan, edited or not; ``data`` re-estimates the batch-normalisation statistics."""
    return single_stage.apply_plan(_call(make_config(model, data), out, progress), Path(plan), Path(out))


def diff_plans(first: PathLike, second: PathLike) -> list[LayerDifference]:
    """List the layers that two plans of one model treat differently, by the lists that are written there.

    What edits lead to beyond that takes the model: :func:`apply_plan` carries them out.
    """
    from yolo_slim.pruning.plan import PrunePlan
    from yolo_slim.pruning.plan_edits import differences

    return differences(PrunePlan.load(Path(first)), PrunePlan.load(Path(second)))


def recover(
    weights: PathLike, teacher: PathLike, data: PathLike, out: PathLike | None = None, *,
    progress: Progress | None = None, retrain: bool = False, **arguments: Any,
) -> RecoverOutputs:  # fmt: skip
    """Train a pruned checkpoint back; arguments as of :func:`make_config`.

    Without ``out``, a run's ``prune/pruned.pt`` is recovered into that run by the run's own model, and what is
    finished there isn't replaced by other settings.
    """
    chosen = make_config(teacher, data, **arguments)
    return single_stage.run_recover(_call(chosen, out, progress, retrain=retrain), Path(weights))


def export(
    weights: PathLike, data: PathLike, out: PathLike | None = None, *, progress: Progress | None = None,
    **arguments: Any,
) -> ExportOutputs:  # fmt: skip
    """Export a checkpoint to ONNX; arguments as of :func:`make_config`."""
    return single_stage.run_export(_call(make_config(weights, data, **arguments), out, progress))


def quantize(
    onnx: PathLike, data: PathLike, out: PathLike, *, trained: PathLike | None = None,
    calibration: PathLike | None = None, precisions: Sequence[str] = PRECISIONS, imgsz: int | None = None,
    config: PathLike | None = None, settings: Settings = None, progress: Progress | None = None,
) -> QuantizeOutputs:  # fmt: skip
    """Make the int8 and fp16 graphs of an exported ONNX file, calibrated on training images.

    ``trained`` is the export with the Q/DQ nodes of quantization-aware training (``model-qat.onnx``).
    """
    from yolo_slim.quantization.graph import layout_of
    from yolo_slim.stages.quantize import QuantizeInputs

    side = imgsz or layout_of(Path(onnx))["imgsz"][0]
    chosen = make_config(onnx, data, config=config, settings=settings, imgsz=side)
    inputs = QuantizeInputs(
        onnx=Path(onnx),
        trained=Path(trained) if trained else None,
        calibration=Path(calibration) if calibration else None,
    )
    return single_stage.run_quantize(_call(chosen, out, progress), inputs, precisions)


def build(
    onnx: PathLike, data: PathLike, out: PathLike, *, target: str = "host", quantized: PathLike | None = None,
    progress: Progress | None = None,
) -> BuildOutputs:  # fmt: skip
    """Build the bundles of a target from an exported ONNX file and the folder that :func:`quantize` filled."""
    chosen = make_config(onnx, data, target=target)
    return single_stage.run_build(_call(chosen, out, progress), Path(onnx), Path(quantized) if quantized else None)


def validate(
    bundles: Mapping[str, PathLike], control: PathLike, data: PathLike, out: PathLike, *,
    pruned: PathLike | None = None, recovered: PathLike | None = None, onnx: PathLike | None = None,
    quantized: PathLike | None = None, command: str = "", progress: Progress | None = None, **arguments: Any,
) -> ValidateOutputs:  # fmt: skip
    """Measure bundles (``{"slim/ncnn-fp16": folder}``) and weights, and judge them by a target's gates."""
    from yolo_slim.stages.quantize import finished_in
    from yolo_slim.stages.validate import ValidateInputs

    inputs = ValidateInputs(
        control=Path(control),
        bundles={key: Path(folder) for key, folder in bundles.items()},
        pruned=Path(pruned) if pruned else None,
        recovered=Path(recovered) if recovered else None,
        onnx=Path(onnx) if onnx else None,
        layer_errors=finished_in(Path(quantized)).layer_errors if quantized else None,
    )
    chosen = make_config(control, data, **arguments)
    return single_stage.run_validate(_call(chosen, out, progress, command=command), inputs)
