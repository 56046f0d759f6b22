"""best.pt -> pruned.pt: remove channels down to a share of the MACs, and say which."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.run import LatencyConfig, PruneConfig, RecoverConfig
from yolo_slim.files import write_json
from yolo_slim.measuring.latency import LatencyOutputs
from yolo_slim.pruning.outputs import PRUNE_REVISION, PruneOutputs, outputs_in
from yolo_slim.stages.context import Context
from yolo_slim.training.replacement import contains_training, require_no_unfinished
from yolo_slim.training.settings import TRAINING_PACKAGES, settings_inside_prune, without_teacher
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

if TYPE_CHECKING:
    from yolo_slim.pruning.groups import ChannelGraph
    from yolo_slim.pruning.pruner import Pruner
    from yolo_slim.pruning.work import PruneWork
    from yolo_slim.stages.prune_latency import LatencyPruning
    from yolo_slim.training.prune_steps import PruneTrainings


@dataclass(frozen=True, kw_only=True)
class PruneInputs:
    """What the stage reads."""

    model: Path
    """Trained checkpoint."""
    training: RecoverConfig = field(default_factory=RecoverConfig)
    """How the network is trained before the first cut or between steps, where the settings ask for it."""
    latency: LatencyOutputs | None = None
    """The device's latency tables, for a budget in milliseconds."""
    timing: LatencyConfig = field(default_factory=LatencyConfig)
    """How cuts are timed then."""


def job_of(inputs: PruneInputs, config: PruneConfig, folder: Path, context: Context) -> Job:
    """Say what decides the stage's result; how to train, and the teacher, only where it trains."""
    recovers = config.recover_epochs_between > 0 and config.steps > 1
    trains = recovers or config.sparse_epochs > 0
    training = inputs.training if recovers else without_teacher(inputs.training)
    digests = {"model": content(inputs.model), "data": context.dataset.digest}
    if config.block_costs:
        digests["block_costs"] = content(Path(config.block_costs))
    if inputs.latency:
        # Not the tables' content or versions: a table that an update lets measure again must not throw a finished
        # training away.
        digests["latency"] = inputs.latency.request
    if trains and training.teacher and training.distill > 0:
        digests["teacher"] = content(Path(training.teacher))
    # The table of block costs counts by its content, wherever it lies.
    settings = {**context.recorded(config), "block_costs": None} | (
        {"training": settings_inside_prune(training)} if trains else {}
    )
    # Gradients and statistics come from the packages that also train.
    return Job(
        stage="prune", folder=folder, settings=settings, inputs=digests, revision=PRUNE_REVISION,
        packages=TRAINING_PACKAGES,
    )  # fmt: skip


def run(
    inputs: PruneInputs, config: PruneConfig, folder: Path, context: Context, *, recovery: Path | None = None
) -> PruneOutputs:
    """Prune a checkpoint.

    Args:
        inputs: files to read.
        config: what to remove.
        folder: folder of the stage.
        context: data, input side and seed.
        recovery: folder of the training that starts from the result. If there is one, an update of a package doesn't
            replace the pruning, because the training would become stale with it. While the training is unfinished, a
            changed setting doesn't replace it either.

    Raises:
        SlimError: an unusable checkpoint, too few images, or a budget that can't be reached.
    """
    job = job_of(inputs, config, folder, context)
    is_trained_on = recovery is not None and contains_training(recovery)
    run_once(
        job,
        _pruned,
        context,
        check=lambda: _checked(job, inputs, config, context, recovery),
        is_training=is_trained_on or "training" in job.settings,
        can_retrain=not is_trained_on,
        otherwise="the recovery starts from it" if is_trained_on else "--retrain trains again",
    )
    return outputs_in(folder)


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A pruning that can start."""

    work: PruneWork
    pruner: Pruner
    graph: ChannelGraph
    trainings: PruneTrainings
    to_ms: LatencyPruning | None
    """Of a budget in milliseconds."""


def _checked(job: Job, inputs: PruneInputs, config: PruneConfig, context: Context, recovery: Path | None) -> _Begun:
    """Refuse what can't be followed, read or reached, before any work."""
    from yolo_slim.pruning.plan_edits import require_unedited
    from yolo_slim.pruning.work import PruneWork, load_prunable
    from yolo_slim.stages.prune_latency import latency_pruning
    from yolo_slim.stages.prune_source import source_of
    from yolo_slim.training.prune_steps import PruneTrainings

    if recovery:
        require_no_unfinished(recovery, job)
    outputs = outputs_in(job.folder)
    require_unedited(outputs.plan)
    loaded = load_prunable(inputs.model, context.imgsz)
    work = PruneWork.of(source_of(loaded, config, job.folder, context), outputs, context.progress)
    pruner, graph = work.begun()
    tables = inputs.latency.tables if inputs.latency else {}
    in_ms = config.frame_ms is not None
    to_ms = (
        latency_pruning(work, pruner, graph, tables, inputs.timing, context, inputs.training.activation)
        if in_ms else None
    )  # fmt: skip
    trainings = PruneTrainings(
        config=config, training=inputs.training, model=inputs.model, dataset=context.dataset, prune_job=job,
        settings=context.recorded(config), options=context,
    )  # fmt: skip
    trainings.require_same()
    return _Begun(work=work, pruner=pruner, graph=graph, trainings=trainings, to_ms=to_ms)


def _pruned(begun: _Begun) -> Made:
    """Cut, with the trainings before and between the cuts that the settings ask for."""
    from yolo_slim.models.ultralytics import use_all_cores

    work, pruner, trainings = begun.work, begun.pruner, begun.trainings
    config, base = work.source.config, work.source.loaded
    use_all_cores()
    if config.sparse_epochs:
        base = trainings.sparse(base)
        pruner = work.pruner(base.sha256)
        pruner.begin(base.model, begun.graph)
    if begun.to_ms is not None:
        model, plan, cut = begun.to_ms.cut(base)
        write_json(work.files.latency, cut.to_json())
        work.progress.say(f"prune: {cut.text()}")
    elif config.recover_epochs_between > 0:
        model, plan = trainings.steps(pruner, base)
    else:
        model, plan = base.model, pruner.cut(base.model)
    after, written = work.finish(pruner, model, plan)
    written += [work.files.latency] if begun.to_ms else []
    return Made(outputs=written, facts={"before": work.before.to_json(), "after": after.to_json()})
