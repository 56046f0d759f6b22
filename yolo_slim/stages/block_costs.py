"""best.pt -> block_costs.json: what each block costs in mAP and saves in milliseconds when it alone is narrowed.

Every block loses the same share of its channels, the lowest-scored ones, while the rest of the network stays; the
batch-normalisation statistics are re-estimated as the prune stage does, and nothing is trained. The cost is the
difference to the unpruned network with statistics re-estimated on the same images, so that it is the cut's alone.
Milliseconds are those of inference; the cut and the unpruned network are timed in the same rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.backends import backend
from yolo_slim.build_key import BuildName
from yolo_slim.config.run import BlockCostsConfig, PruneConfig
from yolo_slim.devices.base import identity
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import write_text
from yolo_slim.runtime.paired import precision_of
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content, outputs_complete, read_manifest
from yolo_slim.workspace.up_to_date import run_once, why_stale

if TYPE_CHECKING:
    from yolo_slim.stages.block_meter import BlockMeter

READ_OF_PRUNE = (
    "criterion", "normalize", "protect", "round_to", "min_width", "min_share", "head_rate", "head_removed",
    "images", "bn_images",
)  # fmt: skip
"""Settings of prune that decide what a block loses; budgets, steps and trainings don't."""
REVISION = 5
"""Raised when equal inputs are measured otherwise; 4: networks that are timed in turns rest between their parts."""
PACKAGES = ("torch", "ultralytics", "onnx", "onnxslim", "onnxruntime", "numpy", "opencv-python")
"""Packages that score, export and count mAP; the version of the runtime that is timed is among the settings."""


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

    table: Path
    """``block_costs.json``, which ``prune.block_costs`` takes."""
    csv: Path
    """``block_costs.csv``: a block a line."""
    page: Path
    """``block_costs.html``: cost against gain, opens offline."""


def outputs_in(folder: Path) -> BlockCostsOutputs:
    """Say where the stage writes."""
    stem = folder / "block_costs"
    return BlockCostsOutputs(
        table=stem.with_suffix(".json"), csv=stem.with_suffix(".csv"), page=stem.with_suffix(".html")
    )


def run(inputs: BlockCostsInputs, config: BlockCostsConfig, folder: Path, context: Context) -> BlockCostsOutputs:
    """Measure every block that can give channels up.

    Args:
        inputs: the checkpoint, and how channels are scored and what may be cut, see :data:`READ_OF_PRUNE`.
        config: how blocks are measured.
        folder: folder of the table.
        context: data, target (whose threads are used), device, input side and seed.

    Raises:
        SlimError: an unusable checkpoint, too few images, a runtime that can't be timed, or a folder that contains a
            complete table by other settings.
    """
    build = BuildName(config.runtime, precision_of(config.runtime))
    # A single cut that no table guides.
    pruning = inputs.pruning.model_copy(update={"scope": "global", "block_costs": None, "steps": 1})
    job = _job(inputs, config, build, folder, context)

    def check() -> BlockMeter:
        from yolo_slim.stages.block_meter import block_meter

        _require_not_another(job)
        return block_meter(job, inputs.model, config, pruning, build, context)

    another = "choose another folder (--out) to measure again"
    run_once(job, _made, context, check=check, is_training=True, can_retrain=False, otherwise=another)
    return outputs_in(folder)


def _job(inputs: BlockCostsInputs, config: BlockCostsConfig, build: BuildName, folder: Path, context: Context) -> Job:
    """Say what decides the result; the device and the runtime's version decide its milliseconds."""
    profile, device = context.profile, context.device
    settings = {
        **config.model_dump(), "precision": build.precision, "imgsz": context.imgsz, "seed": context.seed,
        "end2end": context.end2end, "pruning": {key: getattr(inputs.pruning, key) for key in READ_OF_PRUNE},
        "target": profile.name, "threads": profile.threads, **identity(device), "cores": device.facts().cores,
        **backend(build.runtime).versions(),
    }  # fmt: skip
    return Job(
        stage="block-costs", folder=folder, settings=settings, revision=REVISION, packages=PACKAGES,
        inputs={"model": content(inputs.model), "data": context.dataset.digest},
    )  # fmt: skip


def _require_not_another(job: Job) -> None:
    """Refuse to overwrite a complete table by other settings: measuring it took long."""
    found = read_manifest(job.folder)
    if found is None or found.stage != job.stage or not outputs_complete(job.folder, found):
        return
    raise SlimError(
        f"{job.folder} contains a complete table that was measured with other settings.",
        culprits=[str(change) for change in why_stale(job, found)],
        remedy="Choose another folder with --out, or remove that one yourself.",
    )


def _made(meter: BlockMeter) -> Made:
    """Measure, and write everything."""
    from yolo_slim.reporting import block_costs as report

    folder = meter.job.folder
    outputs = outputs_in(folder)
    with os_errors_explained(folder):
        table = meter.measure()
        table.save(outputs.table)
        write_text(outputs.csv, report.csv_text(table))
        write_text(outputs.page, report.render(table))
    # What a throttled or busy machine measured is shown, but the next call measures it again.
    return Made(outputs=[outputs.table, outputs.csv, outputs.page], is_lasting=not table.invalid_reasons)
