"""The Python API: ``yolo_slim.run`` and one function a stage, with plain arguments.

Every function returns paths and raises :class:`~yolo_slim.errors.SlimError` for what a user can solve. Settings beyond
the named ones go through ``settings`` with the keys of docs/configuration.md: ``{"prune.steps": 2}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_slim import pipeline
from yolo_slim.comparison import run as comparison
from yolo_slim.comparison.methods import DEFAULT_METHODS
from yolo_slim.comparison.output import Outcome as CompareOutcome
from yolo_slim.comparison.request import CompareRequest
from yolo_slim.config import targets
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import RecoverConfig, RunConfig
from yolo_slim.config.strict import parse, read_yaml
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
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Run the whole chain: ``run("best.pt", "data.yaml", target="rpi5", imgsz=320, prune=.5, epochs=30)``."""
    chosen = make_config(
        model, data, config=config, settings=settings, target=target, imgsz=imgsz, prune=prune, epochs=epochs,
        device=device, train=dict(train) if train else None, teacher=str(teacher) if teacher else None,
    )  # fmt: skip
    return pipeline.run(chosen, project=Path(project), name=name, command=command, progress=progress)


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
    progress: Progress | None = None,
    **arguments: Any,
) -> prune_stage.PruneOutputs:
    """Prune a checkpoint into a folder; arguments as of :func:`make_config`."""
    chosen = make_config(model, data, **arguments)
    place = _stage(out, chosen, "prune")
    prepared = pipeline.prepare(chosen, place, command="", progress=progress or Silent(), tasks=checkpoint.TASKS)
    with _held(place, chosen, in_run=not out) as folder:
        return prune_stage.run(
            prune_stage.PruneInputs(model=Path(model), data=Path(data)),
            prepared.config.prune,
            folder,
            imgsz=chosen.imgsz,
            seed=chosen.seed,
            end2end=chosen.export.end2end,
            training=prepared.config.recover,
            data_digest=prepared.data_digest,
            progress=progress,
        )


def block_costs(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    command: str = "",
    progress: Progress | None = None,
    **arguments: Any,
) -> block_costs_stage.BlockCostsOutputs:
    """Measure what each block costs in mAP and gains in milliseconds when it alone loses ``removed`` of its channels.

    The map it writes is what ``prune.scope: block_costs`` follows. Arguments as of :func:`make_config`, and
    ``removed``, ``runtime`` and ``images``.
    """
    chosen = make_config(model, data, **arguments)
    name = f"{Path(chosen.model).stem}-{Path(chosen.target).stem}-{chosen.imgsz}-block-costs"
    folder = Path(out or f"runs/slim/{name}")
    prepared = pipeline.prepare(chosen, folder, command=command, progress=progress or Silent())
    with held(folder):
        return block_costs_stage.run(
            block_costs_stage.BlockCostsInputs(model=Path(model), data=Path(data)),
            chosen.block_costs,
            prepared.config.prune,
            prepared.profile,
            folder,
            imgsz=chosen.imgsz,
            seed=chosen.seed,
            end2end=chosen.export.end2end,
            command=command,
            data_digest=prepared.data_digest,
            progress=progress,
        )


def make_plan(
    model: PathLike, data: PathLike, out: PathLike, *, progress: Progress | None = None, **arguments: Any
) -> prune_stage.PlanOutputs:
    """Write the plan and the table of widths that :func:`prune` would, without weights; arguments as of it."""
    chosen = make_config(model, data, **arguments)
    prepared = pipeline.prepare(chosen, Path(out), command="", progress=progress or Silent(), tasks=checkpoint.TASKS)
    with held(Path(out)):
        return prune_stage.dry_run(
            prune_stage.PruneInputs(model=Path(model), data=Path(data)),
            prepared.config.prune,
            Path(out),
            imgsz=chosen.imgsz,
            seed=chosen.seed,
            end2end=chosen.export.end2end,
            progress=progress,
        )


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
    """Return the layers that two plans of one model treat differently, by the lists that are written there.

    What edits lead to beyond that takes the model: :func:`apply_plan` carries them out.
    """
    return differences(PrunePlan.load(Path(first)), PrunePlan.load(Path(second)))


def recover(
    weights: PathLike,
    teacher: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    progress: Progress | None = None,
    **arguments: Any,
) -> recover_stage.RecoverOutputs:
    """Train a pruned checkpoint back; arguments as of :func:`make_config`.

    Without ``out``, a run's ``prune/pruned.pt`` is recovered into that run by the run's own model, and what is
    finished there isn't trained anew by other settings.
    """
    chosen = make_config(teacher, data, **arguments)
    place = _recovery_place(out, Path(weights), Path(teacher), chosen)
    prepared = pipeline.prepare(chosen, place, command="", progress=progress or Silent(), tasks=checkpoint.TASKS)
    _require_one_teacher(chosen.recover, Path(teacher))
    with held(place):
        return recover_stage.run(
            RecoverInputs(weights=Path(weights), teacher=Path(teacher), data=Path(data)),
            chosen.recover,
            place,
            imgsz=chosen.imgsz,
            seed=chosen.seed,
            end2end=chosen.export.end2end,
            data_digest=prepared.data_digest,
            replace=out is not None,
            progress=progress,
        )


def export(
    weights: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    progress: Progress | None = None,
    **arguments: Any,
) -> export_stage.ExportOutputs:
    """Export a checkpoint to ONNX; arguments as of :func:`make_config`."""
    chosen = make_config(weights, data, **arguments)
    folder = _stage(out, chosen, "export")
    with held(folder):
        if not out:
            _require_same_export(folder, Path(weights))
        return export_stage.run(
            export_stage.ExportInputs(weights=Path(weights), data=Path(data)),
            chosen.export,
            folder,
            imgsz=chosen.imgsz,
            data_digest=digest(load_dataset(Path(data))),
            progress=progress,
        )


def quantize(
    onnx: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    trained: PathLike | None = None,
    calibration: PathLike | None = None,
    precisions: Sequence[str] = quantize_stage.PRECISIONS,
    imgsz: int | None = None,
    config: PathLike | None = None,
    settings: Settings = None,
    progress: Progress | None = None,
) -> quantize_stage.QuantizeOutputs:
    """Make the int8 and fp16 graphs of an exported ONNX file, calibrated on training images.

    ``trained`` is the export with the Q/DQ nodes of quantization-aware training (``model-qat.onnx``).
    """
    side = imgsz or layout_of(Path(onnx)).imgsz[0]
    chosen = make_config(onnx, data, config=config, settings=settings, imgsz=side)
    dataset = load_dataset(Path(data))
    if "int8" in precisions:
        check_dataset(dataset, need=() if calibration else ("train",), deep=False)
    with held(Path(out)):
        return quantize_stage.run(
            quantize_stage.QuantizeInputs(
                onnx=Path(onnx),
                trained=Path(trained) if trained else None,
                data=Path(data),
                calibration=Path(calibration) if calibration else None,
            ),
            chosen.quantize,
            Path(out),
            imgsz=chosen.imgsz,
            seed=chosen.seed,
            precisions=precisions,
            data_digest=digest(dataset),
            progress=progress,
        )


def build(
    onnx: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    target: str = "host",
    quantized: PathLike | None = None,
    progress: Progress | None = None,
) -> build_stage.BuildOutputs:
    """Build the bundles of a target from an exported ONNX file and the folder that :func:`quantize` filled."""
    images = selfcheck_images(load_dataset(Path(data)))
    with held(Path(out)):
        return build_stage.run(
            build_stage.BuildInputs(
                onnx=Path(onnx),
                images=images,
                graphs=quantize_stage.graphs_in(Path(quantized)) if quantized else {},
            ),
            targets.load(target),
            Path(out),
            name=Path(onnx).stem,
            progress=progress,
        )


def validate(
    bundles: Mapping[str, PathLike],
    control: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    pruned: PathLike | None = None,
    recovered: PathLike | None = None,
    onnx: PathLike | None = None,
    quantized: PathLike | None = None,
    command: str = "",
    progress: Progress | None = None,
    **arguments: Any,
) -> validate_stage.ValidateOutputs:
    """Measure bundles (``{"slim/ncnn-fp16": folder}``) and weights, and judge them by a target's gates."""
    chosen = make_config(control, data, **arguments)
    profile: Profile = targets.load(chosen.target)
    prepared = pipeline.prepare(chosen, Path(out), command=command, progress=progress or Silent())
    with held(Path(out)):
        return validate_stage.run(
            validate_stage.ValidateInputs(
                control=Path(control),
                data=Path(data),
                bundles={key: Path(folder) for key, folder in bundles.items()},
                pruned=Path(pruned) if pruned else None,
                recovered=Path(recovered) if recovered else None,
                onnx=Path(onnx) if onnx else None,
                layer_errors=quantize_stage.layer_errors_in(Path(quantized)) if quantized else None,
            ),
            chosen.validate_,
            profile,
            Path(out),
            imgsz=chosen.imgsz,
            name=Path(out).name,
            command=command,
            data_digest=prepared.data_digest,
            progress=progress,
        )
