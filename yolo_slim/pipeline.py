"""The whole chain, and the only place that knows the order of its stages.

A run lives in one folder (``runs/slim/NAME``). What is up to date is skipped, what is stale is made again, and an
interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config import targets
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import PruneConfig, RunConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.export.builds import SELFCHECK_IMAGES, archive_of, precisions_needed
from yolo_slim.progress import Progress, Silent
from yolo_slim.stages import build, export, prune, quantize, recover, validate
from yolo_slim.stages.context import Context
from yolo_slim.training.settings import teacher_of
from yolo_slim.workspace.folder import RUN, Owner, claimed
from yolo_slim.workspace.job import content
from yolo_slim.workspace.up_to_date import NotUpToDate

Answer = TypeVar("Answer")
Value = TypeVar("Value")
DETECTION = ("detect",)
"""Tasks that the whole chain handles; pruning, recovery and export handle all of Ultralytics'."""


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


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration, with the folder and the context that its stages share."""

    config: RunConfig
    folder: Path
    context: Context

    @property
    def model(self) -> Path:
        """The user's checkpoint."""
        return Path(self.config.model)


def default_name(config: RunConfig) -> str:
    """Name a run after what decides it: weights, target, input side and the share removed."""
    stem = Path(config.model).stem
    return f"{stem}-{Path(config.target).stem}-{config.imgsz}-{_amount(config.prune)}"


def _amount(config: PruneConfig) -> str:
    """Say what is removed, for a name: the share of the MACs, of the parameters (p), or the size left (mb)."""
    budget, value = config.budget
    percent = f"{value * 100:g}"
    return {"macs_removed": percent, "params_removed": f"p{percent}", "max_size_mb": f"{value:g}mb"}[budget]


def resolved(config: RunConfig, profile: Profile) -> RunConfig:
    """Fill in what the target decides: the multiple that widths are rounded to.

    Raises:
        SlimError: a multiple that the device's runtimes don't compute in.
    """
    round_to = config.prune.round_to or profile.channel_multiple
    if round_to % profile.channel_multiple:
        raise SlimError(
            f"prune.round_to {round_to} is not a multiple of {profile.name}'s channel_multiple "
            f"{profile.channel_multiple}.",
            remedy=f"Set prune.round_to to {profile.channel_multiple}, or change the profile.",
        )
    return config.model_copy(update={"prune": config.prune.model_copy(update={"round_to": round_to})})


def prepared(
    config: RunConfig,
    folder: Path,
    *,
    command: str = "",
    progress: Progress | None = None,
    retrain: bool = False,
) -> Run:
    """Read the target and the data set's description; no network is loaded and nothing is written."""
    profile = targets.load(config.target)
    config = resolved(config, profile)
    context = Context(
        dataset=load_dataset(Path(config.data)),
        profile=profile,
        imgsz=config.imgsz,
        seed=config.seed,
        end2end=config.export.end2end,
        command=command,
        progress=progress or Silent(),
        retrain=retrain,
    )
    return Run(config=config, folder=folder, context=context)


def checked(this: Run, tasks: Sequence[str] = DETECTION) -> None:
    """Check every input at once: model, stride, training arguments, data set.

    Args:
        this: the run.
        tasks: Ultralytics' tasks that the caller's stages handle.

    Raises:
        SlimError: anything wrong with the inputs.
    """
    from yolo_slim.datasets.check import check_dataset
    from yolo_slim.models import checkpoint
    from yolo_slim.training.arguments import check_overrides, check_teacher, require_device

    config, context = this.config, this.context
    loaded = checkpoint.load(this.model, tasks)
    checkpoint.require_float(loaded)
    checkpoint.require_imgsz(loaded, config.imgsz)
    checkpoint.require_end2end(loaded, asked=config.export.end2end)
    check_overrides(config.recover.overrides)
    require_device(config.recover.device)
    check_teacher(config.recover, loaded)
    check_dataset(
        context.dataset,
        model_names=loaded.names,
        task=loaded.task,
        progress=lambda done, total: context.progress.step("check the data", done, total),
    )
    validate.choose_split(context.dataset, config.validate_)


@dataclass
class _Recorder:
    """A listener that keeps the facts until it is clear whether they are all there is to say."""

    facts: list[str] = field(default_factory=list)

    def step(self, text: str, done: int, total: int) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Keep a fact."""
        self.facts.append(text)


def check_then_make(context: Context, call: Callable[[Context], Answer], check: Callable[[], None]) -> Answer:
    """Answer from what is up to date, without loading a network; otherwise check the inputs and make the rest.

    Args:
        context: of the call.
        call: runs one stage or all of them.
        check: refuses bad inputs, before anything is made.
    """
    recorder = _Recorder()
    try:
        answer = call(replace(context, only_check=True, progress=recorder))
    except NotUpToDate:
        check()
        return call(context)
    for fact in recorder.facts:
        context.progress.say(fact)
    return answer


def owner_of(config: RunConfig, command: str = "") -> Owner:
    """Say whose a run's folder is: results of another model, data set or target don't belong there."""
    identity = {
        "model_sha256": content(Path(config.model)),
        "data": str(Path(config.data).resolve()),
        "target": targets.load(config.target).name,
    }
    record = {"config": config.model_dump(by_alias=True), "command": command}
    return Owner(kind=RUN, identity=identity, record=record)


def run(
    config: RunConfig,
    *,
    project: Path = Path("runs/slim"),
    name: str | None = None,
    command: str = "",
    progress: Progress | None = None,
    retrain: bool = False,
) -> Outcome:
    """Prune, recover, export, quantize, build and validate.

    Raises:
        SlimError: anything wrong with the inputs, found before the first stage; or with the folder.
    """
    folder = project / (name or default_name(config))
    this = prepared(config, folder, command=command, progress=progress, retrain=retrain)

    def check() -> None:
        checked(this)
        _require_calibration(this)

    with claimed(folder, owner_of(config, command)), os_errors_explained(folder):
        return check_then_make(this.context, lambda context: _chain(replace(this, context=context)), check)


def _require_calibration(this: Run) -> None:
    """Refuse data that int8 can't be calibrated on: better now than after hours of training."""
    from yolo_slim.quantization import calibration

    if "int8" in precisions_needed(this.context.profile):
        config, wanted = this.config, this.config.quantize
        calibration.choose(
            this.context.dataset, count=wanted.images, check=wanted.check_images, imgsz=config.imgsz, seed=config.seed
        )


def _chain(this: Run) -> Outcome:
    """Run the stages in order."""
    config, folder, context = this.config, this.folder, this.context
    pruned = prune.run(
        prune.PruneInputs(model=this.model, training=config.recover),
        config.prune,
        folder / "prune",
        context,
        recovery=folder / "recover",
    )
    recovered = recover.run(
        recover.RecoverInputs(weights=pruned.weights, teacher=teacher_of(config.recover, this.model)),
        config.recover,
        folder / "recover",
        context,
    )
    control = _built(this, "control", this.model, None)
    slim = _built(this, "slim", recovered.weights, control.calibration)
    outputs = validate.run(
        validate.ValidateInputs(
            control=this.model,
            pruned=pruned.weights,
            recovered=recovered.weights,
            onnx=slim.onnx,
            layer_errors=slim.layer_errors,
            bundles=_by_model(control.bundles, slim.bundles),
            skipped=_by_model(control.skipped, slim.skipped),
            preflight=slim.preflight,
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
            images=selfcheck_images(context.dataset),
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


def selfcheck_images(dataset: Dataset) -> list[Path]:
    """Choose the validation images of the self-check: the first with labels.

    Raises:
        SlimError: there are none.
    """
    images = dataset.splits.get("val", [])
    if not images:
        raise SlimError(
            f"{dataset.yaml}: no validation images for the bundle's self-check.",
            culprits=dataset.problems.get("val", ()),
            remedy="Add a split 'val'.",
        )
    labelled = [path for path in images[:200] if has_labels(path)]
    return (labelled or images)[:SELFCHECK_IMAGES]
