"""Run one stage alone: where it writes, whose folder that may be, and what is checked first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from yolo_slim import latency_tables, preparation
from yolo_slim.config.run import RecoverConfig, RunConfig
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import fitted_name, named
from yolo_slim.input_check import DETECTION, check_then_make, require_good_inputs
from yolo_slim.measuring.latency import LatencyOutputs
from yolo_slim.preparation import Run, default_name, owner_of
from yolo_slim.progress import Progress, Silent
from yolo_slim.stages import (
    block_costs,
    build,
    control,
    emulate,
    export,
    plan,
    prune,
    quantize,
    recover,
    validate,
)
from yolo_slim.stages.context import Context
from yolo_slim.workspace.folder import RUN, claimed, read_owner, run_of, stage_claimed
from yolo_slim.workspace.job import content, read_manifest

if TYPE_CHECKING:
    from yolo_slim.pruning.outputs import PruneOutputs

Answer = TypeVar("Answer")
TASKS = ("detect", "segment", "pose", "obb", "classify")
"""Tasks that pruning, recovery and export handle."""
RUNS = Path("runs/slim")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one stage."""

    config: RunConfig
    out: Path | None = None
    """Folder that the user named; None: the stage's place in the run of these settings."""
    command: str = ""
    progress: Progress = field(default_factory=Silent)
    retrain: bool = False

    def prepared(self, folder: Path, *, runs_bundles: bool = False, in_ms: bool = False) -> Run:
        """Read target and data set; open the device if bundles are run."""
        return preparation.prepared(
            self.config, folder, command=self.command, progress=self.progress, retrain=self.retrain,
            runs_bundles=runs_bundles, in_ms=in_ms,
        )  # fmt: skip

    def place(self, stage: str) -> Path:
        """Say where the stage writes."""
        return self.out or RUNS / default_name(self.config) / stage

    @contextmanager
    def claimed(self, folder: Path, stage: str, *, model_sha256: str | None = None) -> Iterator[None]:
        """Claim the folder; a place in a run is claimed with the run, so that no other model's is overwritten."""
        if self.out:
            run_model = content(Path(self.config.model)) if stage in ("prune", "recover") else None
            claim = stage_claimed(folder, stage, model_sha256=model_sha256, run_model=run_model)
            with claim, os_errors_explained(folder):
                yield
            return
        with claimed(folder.parent, owner_of(self.config, self.command)), os_errors_explained(folder):
            yield


def _run(
    call: Call,
    folder: Path,
    stage: str,
    make: Callable[[Run], Answer],
    *,
    tasks: Sequence[str] = TASKS,
    model_sha256: str | None = None,
    runs_bundles: bool = False,
) -> Answer:
    """Claim the folder and run a stage that reads the model and all of the data.

    With ``model_sha256`` a folder with another model's results is refused; ``runs_bundles`` opens the device.
    """
    this = call.prepared(folder, runs_bundles=runs_bundles)
    with closing(this.context.device), call.claimed(folder, stage, model_sha256=model_sha256):
        return check_then_make(
            this.context, lambda context: make(replace(this, context=context)), lambda: require_good_inputs(this, tasks)
        )


def run_prune(call: Call) -> PruneOutputs:
    """Prune a checkpoint."""

    def make(this: Run) -> PruneOutputs:
        tables = latency_tables.for_budget(this, RUNS)
        inputs = prune.PruneInputs(
            model=this.model, training=this.config.recover, latency=tables, timing=this.config.latency
        )
        of_run = run_of(this.folder)
        recovery = of_run / "recover" if of_run else None
        return prune.run(inputs, this.config.prune, this.folder, this.context, recovery=recovery)

    in_ms = call.config.prune.frame_ms is not None
    if not in_ms:
        latency_tables.require_no_name(call.config.latency)
    return _run(call, call.place("prune"), "prune", make, tasks=DETECTION if in_ms else TASKS, runs_bundles=in_ms)


def run_latency(call: Call) -> LatencyOutputs:
    """Measure the latency tables of a model on the device."""
    this = call.prepared(Path(), runs_bundles=True, in_ms=True)
    with closing(this.context.device):
        folder = call.out or latency_tables.tables_folder(this, RUNS)

        def make(context: Context) -> LatencyOutputs:
            return latency_tables.measured(replace(this, context=context), folder)

        with os_errors_explained(folder):
            return check_then_make(this.context, make, lambda: require_good_inputs(this, DETECTION))


def run_block_costs(call: Call) -> block_costs.BlockCostsOutputs:
    """Measure what each block costs and saves."""
    config = call.config
    folder = call.out or RUNS / _named_after(Path(config.model), config, "block-costs")

    def make(this: Run) -> block_costs.BlockCostsOutputs:
        inputs = block_costs.BlockCostsInputs(model=this.model, pruning=this.config.prune)
        return block_costs.run(inputs, this.config.block_costs, folder, this.context)

    # A table takes an hour, so another model's isn't replaced.
    model_sha256 = content(Path(config.model))
    call = replace(call, out=folder)
    return _run(call, folder, "block-costs", make, tasks=DETECTION, model_sha256=model_sha256, runs_bundles=True)


def make_plan(call: Call, folder: Path) -> plan.PlanOutputs:
    """Write the plan that :func:`run_prune` would make, without weights."""
    this = call.prepared(folder)
    with stage_claimed(folder, "prune"):
        require_good_inputs(this, TASKS)
        return plan.make(this.model, this.config.prune, folder, this.context)


def apply_plan(call: Call, plan_path: Path, folder: Path) -> PruneOutputs:
    """Prune a checkpoint by a plan, edited by hand or not."""
    imgsz, seed, end2end = plan.settings_in(plan_path)
    this = call.prepared(folder)
    context = replace(this.context, imgsz=imgsz, seed=seed, end2end=end2end)
    with stage_claimed(folder, "prune"), os_errors_explained(folder):
        _require_good_data(this)
        return plan.apply(plan_path, this.model, folder, context)


def _require_good_data(this: Run) -> None:
    """Check the data set against the model that it is for."""
    from yolo_slim.datasets.check import check_dataset
    from yolo_slim.models import checkpoint

    loaded = checkpoint.load(this.model, TASKS)
    context = this.context
    check_dataset(context.dataset, model_names=loaded.names, task=loaded.task, progress=context.progress)


def run_recover(call: Call, weights: Path) -> recover.RecoverOutputs:
    """Train a pruned checkpoint back; the call's model teaches.

    Without a folder, a run's ``prune/pruned.pt`` is recovered into that run by the run's own model, and what is
    finished there isn't replaced.
    """
    teacher = Path(call.config.model)
    _require_one_teacher(call.config.recover, teacher)
    folder = call.out or _recovery_place(weights, call.config)
    inputs = recover.RecoverInputs(weights=weights, teacher=teacher)
    is_named = call.out is not None

    def make(this: Run) -> recover.RecoverOutputs:
        return recover.run(inputs, this.config.recover, folder, this.context, replace=is_named)

    return _run(replace(call, out=folder), folder, "recover", make)


def _require_one_teacher(config: RecoverConfig, teacher: Path) -> None:
    """Refuse settings that name another teacher than the argument."""
    if config.teacher and content(Path(config.teacher)) != content(teacher):
        raise SlimError(
            f"Two teachers are given: {teacher}, and {config.teacher} by recover.teacher.",
            remedy="Give the one that shall teach as --teacher, and leave recover.teacher out.",
        )


def _recovery_place(weights: Path, config: RunConfig) -> Path:
    """Choose a recovery's folder: its place in the run that weights and teacher are of, else one of its own."""
    run = weights.resolve().parent.parent
    owner = read_owner(run) if weights.resolve().parent.name == "prune" else None
    if owner and owner.kind == RUN and owner.identity["model_sha256"] == content(Path(config.model)):
        _require_same_data(run, owner.identity, owner.record, config)
        return run / "recover"
    return RUNS / _named_after(weights, config, "recover")


def _named_after(weights: Path, config: RunConfig, stage: str) -> str:
    """Name a stage's own folder after its weights, target and input side."""
    return fitted_name(weights.stem, after=f"-{Path(config.target).stem}-{config.imgsz}-{stage}")


def _require_same_data(
    run: Path, identity: Mapping[str, object], record: Mapping[str, object], config: RunConfig
) -> None:
    """Refuse a run with another data set or input side: its recovery would be replaced by one that isn't its own."""
    recorded = record.get("config")
    old = {
        "data": identity.get("data"),
        "imgsz": recorded.get("imgsz", config.imgsz) if isinstance(recorded, Mapping) else config.imgsz,
    }
    new = {"data": str(Path(config.data).resolve()), "imgsz": config.imgsz}
    if differing := [f"{key}: {old[key]} there, {new[key]} now" for key in old if old[key] != new[key]]:
        raise SlimError(
            f"{run} contains the run of these weights, with other settings.",
            culprits=differing,
            remedy="Give the run's own settings, or choose a folder (--out).",
        )


def run_export(call: Call) -> export.ExportOutputs:
    """Export a checkpoint to ONNX."""
    folder, weights = call.place("export"), Path(call.config.model)
    this = call.prepared(folder)
    if not call.out:
        _require_same_export(folder, weights)
    with call.claimed(folder, "export"):
        return export.run(weights, call.config.export, folder, this.context)


def _require_same_export(folder: Path, weights: Path) -> None:
    """Refuse a place that the user didn't name and that contains the export of other weights."""
    found = read_manifest(folder)
    if found and found.inputs.get("weights") != content(weights):
        raise SlimError(
            f"{folder} contains the export of other weights than {weights}.", remedy="Choose a folder (--out)."
        )


def run_quantize(call: Call, inputs: quantize.QuantizeInputs, precisions: Sequence[str]) -> quantize.QuantizeOutputs:
    """Make the int8 and fp16 graphs of an exported ONNX file."""
    from yolo_slim.datasets.check import check_dataset

    folder = call.place("quantize")
    this = call.prepared(folder)
    if "int8" in precisions:
        need = () if inputs.calibration else ("train",)
        check_dataset(this.context.dataset, need=need, deep=False, progress=call.progress)
    with call.claimed(folder, "quantize"):
        return quantize.run(inputs, call.config.quantize, folder, this.context, precisions=precisions)


def run_build(call: Call, onnx: Path, quantized: Path | None) -> build.BuildOutputs:
    """Build the bundles of a target from an exported ONNX file and the folder that :func:`run_quantize` filled."""
    folder = call.place("build")
    this = call.prepared(folder)
    inputs = build.BuildInputs(
        onnx=onnx,
        images=build.selfcheck_images(this.context.dataset),
        graphs=quantize.finished_in(quantized, onnx).graphs if quantized else {},
    )
    with call.claimed(folder, "build"):
        return build.run(inputs, folder, this.context, name=onnx.stem)


def run_validate(call: Call, inputs: validate.ValidateInputs) -> validate.ValidateOutputs:
    """Measure bundles and weights, and judge them by a target's gates."""
    folder = call.place("validate")

    def make(this: Run) -> validate.ValidateOutputs:
        config, context = this.config, this.context
        inputs.require_side(context.imgsz)
        inputs.require_classes(context.dataset.names)
        emulate.require_ready(config.emulate, context.profile)
        checked = control.run(inputs.control, config.validate_, folder / "control", context)
        emulated = emulate.run(inputs.bundles, config.emulate, config.validate_, folder / "emulate", context)
        complete = replace(inputs, control_check=checked, emulated=emulated)
        return validate.run(complete, config.validate_, folder, context, name=named(folder).name)

    return _run(call, folder, "validate", make, tasks=DETECTION, runs_bundles=True)
