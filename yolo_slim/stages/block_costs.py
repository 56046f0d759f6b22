"""best.pt -> block_costs.json: what each block costs in mAP and gains in milliseconds when it alone is narrowed.

Every block loses the same share of its channels, the lowest-scored ones, while the rest of the network stays; the
batch-normalisation statistics are re-estimated as the prune stage does, and nothing is trained. The cost is against the
unpruned network with statistics re-estimated on the same images, so that it is the cut's alone. Milliseconds are those
of inference, each turn's cut network against the unpruned one.

Every finished block is a file in ``blocks/``: a killed run goes on with the missing ones.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.backends import Session, backend
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import BlockCostsConfig, ExportConfig, PruneConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.export.onnx import export_onnx
from yolo_slim.files import read_json, write_json, write_text
from yolo_slim.machine import cores, describe_machine, device_model
from yolo_slim.measuring.accuracy import Accuracy, Truth, read_truth, score
from yolo_slim.measuring.predict import detect_all, onnx_infer
from yolo_slim.models import checkpoint
from yolo_slim.models.exported import GraphLayout, layout_of
from yolo_slim.models.size import Size, measure
from yolo_slim.models.ultralytics import log_to, use_all_cores
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.block_costs import ROW_KEYS, BlockCost, BlockCosts
from yolo_slim.pruning.blockwise import Block, blocks_of, cut_alone, kept_in
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.importance import require_images
from yolo_slim.pruning.pruner import Pruner, Ranked, Task
from yolo_slim.reporting import block_costs as report
from yolo_slim.runtime import paired
from yolo_slim.runtime.letterbox import letterbox
from yolo_slim.runtime.sources import read_image
from yolo_slim.stages.context import Context
from yolo_slim.training.batches import loader
from yolo_slim.workspace.job import (
    Job,
    Made,
    content,
    outputs_complete,
    read_manifest,
    run_once,
    versions,
    why_stale,
)

READ_OF_PRUNE = (
    "criterion", "normalize", "protect", "round_to", "min_width", "min_share", "head_rate", "head_removed",
    "images", "bn_images",
)  # fmt: skip
"""Settings of prune that decide what a block loses; budgets, steps and trainings don't."""
REVISION = 1
"""Raised when equal inputs are measured otherwise."""
PACKAGES = ("torch", "ultralytics", "onnx", "onnxslim", "numpy", "opencv-python")
"""Packages that score, export and count mAP; the runtime's own versions are among the settings."""
SPLIT = "val"
TIMED_IMAGES = 8
CONTROL = "control"


@dataclass(frozen=True, kw_only=True)
class BlockCostsInputs:
    """What the stage reads."""

    model: Path
    """Trained detection checkpoint."""
    pruning: PruneConfig
    """How channels are scored and what may be cut."""


@dataclass(frozen=True, kw_only=True)
class BlockCostsOutputs:
    """What the stage wrote."""

    map: Path
    """``block_costs.json``, which ``prune.block_costs`` takes."""
    table: Path
    """``block_costs.csv``: a block a line."""
    page: Path
    """``block_costs.html``: cost against gain, opens offline."""


def outputs_in(folder: Path) -> BlockCostsOutputs:
    """Return where the stage writes."""
    stem = folder / "block_costs"
    return BlockCostsOutputs(
        map=stem.with_suffix(".json"), table=stem.with_suffix(".csv"), page=stem.with_suffix(".html")
    )


def run(inputs: BlockCostsInputs, config: BlockCostsConfig, folder: Path, context: Context) -> BlockCostsOutputs:
    """Measure every block that can give channels up.

    Args:
        inputs: the checkpoint, and how channels are scored and what may be cut, see :data:`READ_OF_PRUNE`.
        config: how blocks are measured.
        folder: folder of the table.
        context: data, target (whose threads are used), input side and seed.

    Raises:
        SlimError: an unusable checkpoint, too few images, a runtime that can't be timed here, or a folder that
            contains this model's complete table by other settings.
    """
    where = _where(config, context)
    pruning = _single_cut(inputs.pruning)
    job = _job(folder, config, pruning, {**where, "seed": context.seed, "end2end": context.end2end}, inputs, context)

    def check() -> _Parts:
        return _checked(job, inputs, config, pruning, context)

    def make(parts: _Parts) -> Made:
        return _made(job, parts, config, where, context)

    run_once(job, make, context, check=check)
    return outputs_in(folder)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What is loaded before the first block is measured."""

    loaded: checkpoint.Checkpoint
    judge: _Judge
    pruner: Pruner
    criterion: str


def _checked(
    job: Job, inputs: BlockCostsInputs, config: BlockCostsConfig, pruning: PruneConfig, context: Context
) -> _Parts:
    """Refuse what can't be measured, and a folder with another complete table."""
    loaded = checkpoint.load(inputs.model)
    checkpoint.require_imgsz(loaded, context.imgsz)
    checkpoint.require_end2end(loaded, asked=context.end2end)
    _require_not_another(job)
    require_images(pruning.criterion, len(context.dataset.splits.get("train", [])))
    judge = _Judge.of(context.dataset, config.images)
    return _Parts(
        loaded=loaded, judge=judge, pruner=_pruner(loaded, pruning, job.folder, context), criterion=pruning.criterion
    )


def _made(job: Job, parts: _Parts, config: BlockCostsConfig, where: dict[str, Any], context: Context) -> Made:
    """Measure, and write the table."""
    use_all_cores()
    loaded = parts.loaded
    with tempfile.TemporaryDirectory(prefix="yolo-slim-block-costs-") as scratch, os_errors_explained(job.folder):
        meter = _Meter(
            job=job, loaded=loaded, config=config, threads=where["threads"], end2end=context.end2end,
            imgsz=context.imgsz, judge=parts.judge, scratch=Path(scratch), progress=context.progress,
            pruner=parts.pruner,
        )  # fmt: skip
        control, rows = meter.measured()
    about = {
        **where, **_circumstances(context.profile, context.command), "criterion": parts.criterion,
        "data": {"yaml": context.dataset.yaml.name, "split": SPLIT, "images": len(parts.judge.images)},
        CONTROL: control,
    }  # fmt: skip
    found = BlockCosts(model_sha256=loaded.sha256, removed=config.removed, blocks=rows, about=about)
    outputs = outputs_in(job.folder)
    _write(outputs, found)
    # What a throttled machine measured is shown, but the next call measures it again.
    is_lasting = not any(row.details.get("invalid_reasons") for row in rows)
    return Made(outputs=[outputs.map, outputs.table, outputs.page], is_lasting=is_lasting)


def _where(config: BlockCostsConfig, context: Context) -> dict[str, Any]:
    """Say where the milliseconds are measured: target, runtime, threads and input side.

    Raises:
        SlimError: a runtime that can't be timed here.
    """
    runtime = f"{config.runtime} {paired.precision_of(config.runtime)}"
    threads = min(context.profile.threads, cores())
    return {"target": context.profile.name, "runtime": runtime, "threads": threads, "imgsz": context.imgsz}


def _job(
    folder: Path,
    config: BlockCostsConfig,
    pruning: PruneConfig,
    where: dict[str, Any],
    inputs: BlockCostsInputs,
    context: Context,
) -> Job:
    """Say what decides the result; the machine and the runtime's version decide its milliseconds."""
    settings = {
        **config.model_dump(), **where, "machine": device_model(),
        "pruning": {key: getattr(pruning, key) for key in READ_OF_PRUNE}, **backend(config.runtime).versions(),
    }  # fmt: skip
    return Job(
        stage="block-costs", folder=folder, settings=settings, revision=REVISION, packages=PACKAGES,
        inputs={"model": content(inputs.model), "data": context.dataset.digest},
    )  # fmt: skip


def _circumstances(profile: Profile, command: str) -> dict[str, Any]:
    """Return where, when and how a map was measured, for people."""
    return {
        "target_is_this_machine": LocalDevice().is_target(profile),
        "ms_of": "inference of one image, median of the rounds' differences",
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "machine": describe_machine(),
        "versions": versions(),
    }


def _single_cut(pruning: PruneConfig) -> PruneConfig:
    """Change the settings to a single cut that no table guides."""
    return pruning.model_copy(update={"scope": "global", "block_costs": None, "steps": 1})


def _require_not_another(job: Job) -> None:
    """Refuse to overwrite the model's complete table by other settings: measuring it took long."""
    found = read_manifest(job.folder)
    if found is None or found.stage != job.stage or not outputs_complete(job.folder, found):
        return
    raise SlimError(
        f"{job.folder} contains a complete table that was measured with other settings.",
        culprits=[str(change) for change in why_stale(job, found)],
        remedy="Choose another folder with --out, or remove that one yourself.",
    )


def _block_file(folder: Path, name: str) -> Path:
    """Return where a block's measurement is kept."""
    return folder / "blocks" / f"{name}.json"


def _pruner(loaded: checkpoint.Checkpoint, pruning: PruneConfig, folder: Path, context: Context) -> Pruner:
    """Make what scores channels and re-estimates statistics, as the prune stage does."""
    imgsz = context.imgsz
    task = Task(
        config=pruning, model_sha256=loaded.sha256, source_sha256=loaded.sha256, settings={},
        before=measure(loaded.model, imgsz, end2end=context.end2end), goal=Goal(removed=0.0),
        images=context.dataset.splits.get("train", []), imgsz=imgsz, seed=context.seed, end2end=context.end2end,
        load=loader(loaded.task, context.dataset, imgsz, folder),
    )  # fmt: skip
    pruner = Pruner(task=task, progress=Silent())
    pruner.begin(loaded.model, trace_channels(loaded.model, imgsz))
    return pruner


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """The validation images that every network is scored on."""

    images: Sequence[Path]
    truths: Sequence[Truth]
    names: dict[int, str]

    @classmethod
    def of(cls, dataset: Dataset, limit: int) -> _Judge:
        """Take the first ``limit`` validation images; 0 takes all.

        Raises:
            SlimError: no validation images.
        """
        images = dataset.splits.get(SPLIT, [])[: limit or None]
        if not images:
            raise SlimError(f"{dataset.yaml}: the split '{SPLIT}' has no images.", remedy="Add validation images.")
        return cls(images=images, truths=[read_truth(path) for path in images], names=dataset.names)

    def accuracy(self, onnx: Path, about: GraphLayout) -> Accuracy:
        """Return the mAP of an exported graph."""
        found = detect_all(
            self.images, onnx_infer(onnx), layout=about.layout, imgsz=about.imgsz[0], progress=Silent(), text=""
        )
        return score(self.truths, found, self.names)


@dataclass(frozen=True, kw_only=True)
class _Meter:
    """Measures the blocks of one model; what was measured before is read."""

    job: Job
    loaded: checkpoint.Checkpoint
    config: BlockCostsConfig
    threads: int
    end2end: bool
    imgsz: int
    judge: _Judge
    scratch: Path
    """Folder of what is exported and forgotten."""
    progress: Progress
    pruner: Pruner

    def measured(self) -> tuple[dict[str, Any], tuple[BlockCost, ...]]:
        """Return the control's measurement and every block's."""
        self.progress.say("block-costs: score the channels")
        ranked = self.pruner.rank(self.loaded.model, 0)
        blocks = blocks_of(ranked)
        _block_file(self.job.folder, CONTROL).parent.mkdir(exist_ok=True)
        onnx = self._exported(self.loaded.model, CONTROL)
        control = self._stored(CONTROL) or self._control(onnx)
        unpruned = self._session(onnx, self.scratch)
        rows = []
        for done, block in enumerate(blocks):
            self.progress.step("block-costs: blocks", done, len(blocks))
            rows.append(self._stored(block.name) or self._block(ranked, block, control, unpruned))
        self.progress.step("block-costs: blocks", len(blocks), len(blocks))
        unpruned.close()
        return control, tuple(_cost(row) for row in rows)

    def _stored(self, name: str) -> dict[str, Any] | None:
        """Return a measurement that the same job made before, unless its timing doesn't count."""
        try:
            value = read_json(_block_file(self.job.folder, name))
        except (OSError, ValueError):
            return None
        if not isinstance(value, dict) or value.pop("fingerprint", None) != self.job.fingerprint:
            return None
        return None if value.get("invalid_reasons") else value

    def _store(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        """Keep a measurement, and return it."""
        write_json(_block_file(self.job.folder, name), {"fingerprint": self.job.fingerprint, **value})
        return value

    def _control(self, onnx: Path) -> dict[str, Any]:
        """Measure the unpruned network, as it was trained and with its statistics re-estimated."""
        again = copy.deepcopy(self.loaded.model)
        self._restat(again)
        size = self.pruner.task.before
        trained, restated = self._accuracy(onnx), self._accuracy(self._exported(again, "restated"))
        value = {
            "model_sha256": self.loaded.sha256, "map50_95_trained": trained.map50_95, "map50_95": restated.map50_95,
            **size.to_json(),
        }  # fmt: skip
        self.progress.say(
            f"block-costs: unpruned mAP50-95 {trained.map50_95:.4f}, with statistics re-estimated "
            f"{restated.map50_95:.4f}, on {len(self.judge.images)} {SPLIT} images"
        )
        return self._store(CONTROL, value)

    def _block(self, ranked: Ranked, block: Block, control: dict[str, Any], unpruned: Session) -> dict[str, Any]:
        """Measure one block."""
        started = time.monotonic()
        keep = kept_in(ranked, block, self.config.removed)
        cut = cut_alone(self.loaded.model, ranked, keep)
        self._restat(cut)
        onnx = self._exported(cut, "cut")
        accuracy = self._accuracy(onnx)
        value = {
            "name": block.name,
            "map_cost": control["map50_95"] - accuracy.map50_95,
            **self._timed(onnx, unpruned),
            "map50_95": accuracy.map50_95,
            **_savings(self.pruner.task.before, measure(cut, self.imgsz, end2end=self.end2end)),
            **_channels(ranked, block, keep),
            "seconds": round(time.monotonic() - started, 1),
        }
        self.progress.say(
            f"block-costs: {block.name}: mAP50-95 {-100 * value['map_cost']:+.2f} points, {-value['ms_gain']:+.3f} ms"
        )
        return self._store(block.name, value)

    def _restat(self, model: nn.Module) -> None:
        """Re-estimate the statistics; an export in between leaves another number of threads behind."""
        use_all_cores()
        self.pruner.restat(model, last=True)

    def _accuracy(self, onnx: Path) -> Accuracy:
        return self.judge.accuracy(onnx, layout_of(onnx))

    def _exported(self, model: nn.Module, name: str) -> Path:
        """Return a network's fp32 graph, exported as the export stage does."""
        weights, onnx = self.scratch / f"{name}.pt", self.scratch / f"{name}.onnx"
        checkpoint.save(weights, self.loaded, model)
        with log_to(self.job.folder / "export.log"):
            export_onnx(weights, ExportConfig(end2end=self.end2end), self.imgsz, onnx)
        return onnx

    def _session(self, onnx: Path, folder: Path) -> Session:
        """Return a graph's session in the runtime that is timed; its files go into ``folder``."""
        about = layout_of(onnx)
        return paired.open_session(onnx, folder, asdict(about), runtime=self.config.runtime, threads=self.threads)

    def _timed(self, onnx: Path, unpruned: Session) -> dict[str, Any]:
        """Return what a cut network gains against the unpruned one."""
        images = (read_image(path, convert_channels=True) for path in self.judge.images[:TIMED_IMAGES])
        blobs = [letterbox(image, (self.imgsz, self.imgsz))[0] for image in images]
        rounds, frames = self.config.rounds, self.config.frames
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            session = self._session(onnx, Path(folder))
            found = paired.time_paired(unpruned, session, blobs, rounds=rounds, frames=frames)
            session.close()
        return found.to_json()


def _savings(before: Size, after: Size) -> dict[str, Any]:
    """Return what went of the fused graph's MACs and parameters, as shares."""
    return {"macs_saved": 1 - after.macs / before.macs, "params_saved": 1 - after.params / before.params}


def _channels(ranked: Ranked, block: Block, keep: Any) -> dict[str, Any]:
    """Return the channels of a block before and after, and the layers that stand for its decisions."""
    slots = [ranked.slots[i] for i in block.slots]
    return {
        "channels": sum(slot.width * slot.unit for slot in slots),
        "channels_kept": int(sum(keep[i] * ranked.slots[i].unit for i in block.slots)),
        "layers": [slot.name for slot in slots],
    }


def _cost(row: dict[str, Any]) -> BlockCost:
    """Return a measurement as a row of the map."""
    details = {key: value for key, value in row.items() if key not in ROW_KEYS}
    return BlockCost(**{key: row[key] for key in ROW_KEYS}, details=details)


def _write(outputs: BlockCostsOutputs, found: BlockCosts) -> None:
    """Write the map, the table and the page."""
    with os_errors_explained(outputs.map):
        found.save(outputs.map)
        value = read_json(outputs.map)
        write_text(outputs.table, report.csv_text(value))
        write_text(outputs.page, report.render(value))
