"""best.pt -> pruned.pt: remove channels down to a share of the MACs, and say which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import sha256, write_json
from yolo_slim.models import checkpoint
from yolo_slim.models.size import Size, conv_widths, measure
from yolo_slim.models.ultralytics import use_all_cores
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning import plan_edits as planning
from yolo_slim.pruning.budget import make_goal, require_goal, require_size
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.importance import require_images
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.pruner import Pruner, Task
from yolo_slim.pruning.surgery import apply_plan
from yolo_slim.training.batches import loader
from yolo_slim.training.prune_steps import Phases, deciding, untaught
from yolo_slim.workspace.job import Job, read_manifest


@dataclass(frozen=True, kw_only=True)
class PruneInputs:
    """What the stage reads."""

    model: Path
    """Trained checkpoint."""
    data: Path
    """Ultralytics data set description."""


@dataclass(frozen=True, kw_only=True)
class PruneOutputs:
    """What the stage wrote."""

    weights: Path
    """``pruned.pt``."""
    plan: Path
    """``plan.json``: the channels that stay."""
    widths: Path
    """``widths.json``: width of every convolution before and after, MACs and parameters."""


@dataclass(frozen=True, kw_only=True)
class PlanOutputs:
    """What a dry run wrote."""

    plan: Path
    widths: Path


def outputs_in(folder: Path) -> PruneOutputs:
    """Return where the stage writes."""
    return PruneOutputs(weights=folder / "pruned.pt", plan=folder / "plan.json", widths=folder / "widths.json")


def run(
    inputs: PruneInputs,
    config: PruneConfig,
    out_dir: Path,
    *,
    imgsz: int,
    seed: int = 0,
    end2end: bool = False,
    training: RecoverConfig | None = None,
    data_digest: str = "",
    progress: Progress | None = None,
) -> PruneOutputs:
    """Prune a checkpoint; a finished result of the same settings and inputs is kept.

    Args:
        inputs: files to read.
        config: what to remove.
        out_dir: folder of the stage.
        imgsz: input side in pixels: MACs and scores are computed at it.
        seed: seed of the choice of images.
        end2end: yolo26's one-to-one head is the one that will be exported.
        training: how the network is trained before the cut or between its steps, where the settings ask for it.
        data_digest: digest of the data set, see :func:`yolo_slim.datasets.description.digest`.
        progress: listener.

    Raises:
        SlimError: an unusable checkpoint, too few images, or a budget that can't be reached.
    """
    progress = progress or Silent()
    loaded = checkpoint.load(inputs.model, checkpoint.TASKS)
    checkpoint.require_float(loaded)
    checkpoint.require_imgsz(loaded, imgsz)
    settings = {**config.model_dump(), "imgsz": imgsz, "seed": seed, "end2end": end2end}
    training = training or RecoverConfig()
    job = _job(out_dir, config, settings, training, {"model": loaded.sha256, "data": data_digest})
    if job.is_done():
        progress.say("prune: done before, kept")
        return outputs_in(out_dir)
    planning.require_unedited(outputs_in(out_dir).plan)
    # What can't be followed, named, read or reached is refused here, before any work.
    graph = trace_channels(loaded.model, imgsz)
    work = _Work.of(inputs, loaded, config, settings, out_dir, progress)
    pruner = work.pruner(loaded.sha256)
    pruner.begin(loaded.model, graph)
    pruner.require_reachable(loaded.model, graph)
    _tell_kept(graph, progress)
    phases = Phases(
        config=config, training=training, model=inputs.model, data=inputs.data, folder=out_dir, settings=settings,
        inputs=dict(job.inputs), imgsz=imgsz, seed=seed, progress=progress,
    )  # fmt: skip
    phases.require_same()
    job.begin()
    use_all_cores()
    base = loaded
    if config.sparse_epochs:
        base = phases.sparse(loaded)
        pruner = work.pruner(base.sha256)
        pruner.begin(base.model, graph)
    between = config.recover_epochs_between > 0
    model, plan = phases.steps(pruner, base) if between else (base.model, pruner.cut(base.model))
    return work.finish(job, pruner, model, plan)


def _job(
    folder: Path, config: PruneConfig, settings: dict[str, Any], training: RecoverConfig, digests: dict[str, str]
) -> Job:
    """Return the stage's job; how to train and the teacher decide its result only where it trains."""
    recovers = config.recover_epochs_between > 0 and config.steps > 1
    trains, training = recovers or config.sparse_epochs > 0, training if recovers else untaught(training)
    teacher = {"teacher": sha256(Path(training.teacher))} if training.teacher and training.distill > 0 else {}
    return Job(
        stage="prune",
        folder=folder,
        config={**settings, **({"training": deciding(training)} if trains else {})},
        inputs={**digests, **_map_digest(config), **teacher},
    )


def dry_run(
    inputs: PruneInputs,
    config: PruneConfig,
    out_dir: Path,
    *,
    imgsz: int,
    seed: int = 0,
    end2end: bool = False,
    progress: Progress | None = None,
) -> PlanOutputs:
    """Write the plan and the table of widths that :func:`run` would, without weights.

    Raises:
        SlimError: as :func:`run`; settings that train, because a dry run doesn't; or a folder with a network that was
            pruned by another plan, which would no longer tell how it was made.
    """
    progress, outputs = progress or Silent(), outputs_in(out_dir)
    planning.require_unedited(outputs.plan)
    if config.sparse_epochs or config.recover_epochs_between:
        raise SlimError(
            "A plan can't be made without training where sparse_epochs or recover_epochs_between is set.",
            remedy="Set both to 0, or run `yolo-slim prune`, which writes the plan too.",
        )
    loaded = checkpoint.load(inputs.model, checkpoint.TASKS)
    checkpoint.require_float(loaded)
    checkpoint.require_imgsz(loaded, imgsz)
    settings = {**config.model_dump(), "imgsz": imgsz, "seed": seed, "end2end": end2end}
    with os_errors_explained(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    use_all_cores()
    work = _Work.of(inputs, loaded, config, settings, out_dir, progress)
    pruner = work.pruner(loaded.sha256)
    graph = trace_channels(loaded.model, imgsz)
    pruner.begin(loaded.model, graph)
    pruner.require_reachable(loaded.model, graph)
    _tell_kept(graph, progress)
    plan = pruner.cut(loaded.model)
    after = measure(loaded.model, imgsz, end2end=end2end)
    require_goal(work.goal, work.before, after)
    if read_manifest(out_dir) and outputs.plan.is_file() and PrunePlan.load(outputs.plan) != plan:
        raise SlimError(
            f"{out_dir} holds a network that was pruned by another plan.",
            remedy="Choose another folder (--out).",
        )
    plan.save(outputs.plan)
    write_json(outputs.widths, width_table(work.widths, loaded.model, work.before, after))
    return PlanOutputs(plan=outputs.plan, widths=outputs.widths)


def _tell_kept(graph: ChannelGraph, progress: Progress) -> None:
    """Name the blocks that can't be cut."""
    for block, why in graph.blocks_kept().items():
        progress.say(f"prune: {block} keeps channels: {why}")


def replay(
    inputs: PruneInputs, plan_path: Path, out_dir: Path, *, data_digest: str = "", progress: Progress | None = None
) -> PruneOutputs:
    """Prune a checkpoint by a plan, hand-edited or not: the weights that :func:`run` made by it, byte for byte.

    A plan whose steps were recovered in between gives its widths, but not what those trainings did to the weights.

    Args:
        inputs: the checkpoint that the plan was made for, and the data for the batch-normalisation statistics.
        plan_path: ``plan.json``.
        out_dir: folder to write, laid out as the stage's.
        data_digest: digest of the data set.
        progress: listener.

    Raises:
        SlimError: a plan for another model, or with widths that can't be.
    """
    progress = progress or Silent()
    loaded = checkpoint.load(inputs.model, checkpoint.TASKS)
    checkpoint.require_float(loaded)
    written = PrunePlan.load(plan_path).settings
    imgsz = written["imgsz"]
    checkpoint.require_imgsz(loaded, imgsz)
    checkpoint.require_end2end(loaded, asked=written["end2end"])
    plan, _ = planning.load_for(plan_path, loaded.model, loaded.sha256)
    config = planning.config_of(plan)
    if config.recover_epochs_between:
        progress.say("plan: its steps were recovered in between; this cuts the weights given, without those trainings")
    job = Job(
        stage="prune",
        folder=out_dir,
        config={**plan.settings, "plan": {name: list(cut.outputs) for name, cut in plan.layers.items()}},
        inputs={"model": loaded.sha256, "data": data_digest},
    )
    if job.is_done():
        progress.say("prune: done before, kept")
        return outputs_in(out_dir)
    planning.require_unedited(outputs_in(out_dir).plan, plan)
    work = _Work.of(inputs, loaded, config, plan.settings, out_dir, progress, by_plan=True)
    apply_plan(loaded.model, plan)
    if not plan.edited:
        require_goal(work.goal, work.before, measure(loaded.model, imgsz, end2end=plan.settings["end2end"]))
    job.begin()
    use_all_cores()
    return work.finish(job, work.pruner(loaded.sha256), loaded.model, plan, judged=not plan.edited)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What cutting by search and cutting by plan share."""

    loaded: checkpoint.Checkpoint
    config: PruneConfig
    settings: dict[str, Any]
    dataset: Dataset
    out_dir: Path
    before: Size
    widths: dict[str, int]
    goal: Goal
    progress: Progress

    @classmethod
    def of(
        cls,
        inputs: PruneInputs,
        loaded: checkpoint.Checkpoint,
        config: PruneConfig,
        settings: dict[str, Any],
        out_dir: Path,
        progress: Progress,
        *,
        by_plan: bool = False,
    ) -> _Work:
        """Measure the unpruned network and the budget; enough images are checked here, a plan's for its statistics."""
        dataset = load_dataset(inputs.data)
        require_images(None if by_plan else config.criterion, len(dataset.splits.get("train", [])))
        before = measure(loaded.model, settings["imgsz"], end2end=settings["end2end"])
        return cls(
            loaded=loaded,
            config=config,
            settings=settings,
            dataset=dataset,
            out_dir=out_dir,
            before=before,
            widths=conv_widths(loaded.model),
            goal=make_goal(config, before, inputs.model, settings),
            progress=progress,
        )

    def pruner(self, model_sha256: str) -> Pruner:
        """Return the pruner of a network."""
        images = self.dataset.splits.get("train", [])
        imgsz = self.settings["imgsz"]
        task = Task(
            config=self.config, model_sha256=model_sha256, source_sha256=self.loaded.sha256, settings=self.settings,
            before=self.before, goal=self.goal, images=images, imgsz=imgsz,
            seed=self.settings["seed"], end2end=self.settings["end2end"],
            load=loader(self.loaded.task, self.dataset, imgsz, self.out_dir),
        )  # fmt: skip
        return Pruner(task=task, progress=self.progress)

    def finish(
        self, job: Job, pruner: Pruner, model: nn.Module, plan: PrunePlan, *, judged: bool = True
    ) -> PruneOutputs:
        """Re-estimate the statistics, check the result against the budget where it is ``judged``, write everything."""
        pruner.restat(model, last=True)
        outputs, before = outputs_in(self.out_dir), self.before
        after = measure(model, self.settings["imgsz"], end2end=self.settings["end2end"])
        if judged:
            require_goal(self.goal, before, after)
        plan.save(outputs.plan)
        checkpoint.save(outputs.weights, self.loaded, model, imgsz=self.settings["imgsz"])
        if judged:
            require_size(self.config, outputs.weights, self.settings)
        write_json(outputs.widths, width_table(self.widths, model, before, after))
        written = [outputs.weights, outputs.plan, outputs.widths]
        job.finish(written, {"before": before.to_json(), "after": after.to_json()})
        self.progress.say(
            f"prune: {before.macs / 1e9:.2f} -> {after.macs / 1e9:.2f} GMACs "
            f"({1 - after.macs / before.macs:.0%} removed), "
            f"{before.params / 1e6:.2f} -> {after.params / 1e6:.2f} M parameters"
        )
        return outputs


def _map_digest(config: PruneConfig) -> dict[str, str]:
    """Return the digest of the table of block costs among the inputs, where there is one."""
    path = Path(config.block_costs) if config.block_costs else None
    return {"block_costs": sha256(path)} if path and path.is_file() else {}


def width_table(before: dict[str, int], model: nn.Module, size_before: Size, size_after: Size) -> dict[str, Any]:
    """Return the JSON value of ``widths.json``."""
    after = conv_widths(model)
    layers = [{"layer": name, "before": width, "after": after[name]} for name, width in before.items()]
    return {"control": size_before.to_json(), "slim": size_after.to_json(), "layers": layers}
