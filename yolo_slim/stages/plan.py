"""A prune plan on its own: made without weights (`plan make`), or applied to a checkpoint (`plan apply`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.pruning.outputs import PRUNE_REVISION, PruneOutputs, outputs_in
from yolo_slim.stages.context import Context
from yolo_slim.training.settings import TRAINING_PACKAGES
from yolo_slim.workspace.job import Job, Made, content, read_manifest
from yolo_slim.workspace.up_to_date import run_once

if TYPE_CHECKING:
    from yolo_slim.models import checkpoint
    from yolo_slim.pruning.plan import PrunePlan
    from yolo_slim.pruning.work import PruneWork


@dataclass(frozen=True, kw_only=True)
class PlanOutputs:
    """What a dry run wrote."""

    plan: Path
    widths: Path


def make(model: Path, config: PruneConfig, folder: Path, context: Context) -> PlanOutputs:
    """Write the plan and the table of widths that the prune stage would, without weights.

    Raises:
        SlimError: as the prune stage; settings that train, because a dry run doesn't; or a folder with a network that
            was pruned by another plan.
    """
    from yolo_slim.models.ultralytics import use_all_cores
    from yolo_slim.pruning.plan_edits import require_unedited
    from yolo_slim.pruning.work import PruneWork, load_prunable, require_same_plan
    from yolo_slim.stages.prune_source import source_of

    outputs = outputs_in(folder)
    require_unedited(outputs.plan)
    if config.sparse_epochs or config.recover_epochs_between:
        raise SlimError(
            "A plan can't be made without training while sparse_epochs or recover_epochs_between is set.",
            remedy="Set both to 0, or run `yolo-slim prune`, which writes the plan too.",
        )
    if config.frame_ms is not None:
        raise SlimError(
            "A plan for a budget in milliseconds needs the device.",
            remedy="Run `yolo-slim prune`, which writes the plan too, or give the plan another budget.",
        )
    loaded = load_prunable(model, context.imgsz)
    with os_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    use_all_cores()
    work = PruneWork.of(source_of(loaded, config, folder, context), outputs, context.progress)
    pruner, _ = work.begun()
    plan = pruner.cut(loaded.model)
    require_same_plan(outputs, plan, is_pruned=read_manifest(folder) is not None)
    work.write_plan(plan, loaded.model)
    return PlanOutputs(plan=outputs.plan, widths=outputs.widths)


def settings_in(plan: Path) -> tuple[int, int, bool]:
    """Read the input side, the seed and the choice of head that a plan was made with."""
    from yolo_slim.pruning.plan import PrunePlan

    settings = PrunePlan.load(plan).settings
    return settings["imgsz"], settings["seed"], settings["end2end"]


def apply(plan_path: Path, model: Path, folder: Path, context: Context) -> PruneOutputs:
    """Prune a checkpoint by a plan, edited by hand or not.

    A plan of the prune stage gives that stage's weights, byte for byte. If the stage trained between its steps, the
    plan gives the same widths, but the weights lack those trainings.

    Args:
        plan_path: ``plan.json``.
        model: the checkpoint that the plan was made for.
        folder: folder to write, laid out as the prune stage's.
        context: the data of the batch-normalisation statistics, and the settings of :func:`settings_in`.

    Raises:
        SlimError: a plan for another model, or with impossible widths.
    """
    from yolo_slim.models.checkpoint import require_end2end
    from yolo_slim.pruning.plan_edits import config_of, load_for
    from yolo_slim.pruning.work import load_prunable

    loaded = load_prunable(model, context.imgsz)
    require_end2end(loaded, asked=context.end2end)
    plan, _ = load_for(plan_path, loaded.model, loaded.sha256)
    config = config_of(plan)
    if config.recover_epochs_between:
        context.progress.say("plan: cuts the given weights, without the trainings that the plan had between its steps")
    job = Job(
        stage="prune",
        folder=folder,
        settings={**plan.settings, "plan": {name: list(cut.outputs) for name, cut in plan.layers.items()}},
        inputs={"model": content(model), "data": context.dataset.digest},
        revision=PRUNE_REVISION,
        packages=TRAINING_PACKAGES,
    )

    def check() -> PruneWork:
        return _applied(plan, loaded, config, job.folder, context)

    run_once(job, lambda work: _written(plan, work), context, check=check)
    return outputs_in(folder)


def _applied(
    plan: PrunePlan, loaded: checkpoint.Checkpoint, config: PruneConfig, folder: Path, context: Context
) -> PruneWork:
    """Cut the network in memory; refuse to overwrite another plan that was edited by hand."""
    from yolo_slim.pruning.plan_edits import require_unedited
    from yolo_slim.pruning.work import PruneWork, apply_to
    from yolo_slim.stages.prune_source import source_of

    outputs = outputs_in(folder)
    require_unedited(outputs.plan, plan)
    source = source_of(loaded, config, folder, context, settings=plan.settings)
    work = PruneWork.of(source, outputs, context.progress, by_plan=True)
    apply_to(work, plan)
    return work


def _written(plan: PrunePlan, work: PruneWork) -> Made:
    """Re-estimate the statistics and write everything."""
    from yolo_slim.models.ultralytics import use_all_cores

    use_all_cores()
    loaded = work.source.loaded
    after, written = work.finish(work.pruner(loaded.sha256), loaded.model, plan, has_budget=not plan.edited)
    return Made(outputs=written, facts={"before": work.before.to_json(), "after": after.to_json()})
