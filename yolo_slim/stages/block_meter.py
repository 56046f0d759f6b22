"""Measure a model's blocks one after the other: the mAP that a cut costs and the milliseconds that it saves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.config.run import BlockCostsConfig, PruneConfig
from yolo_slim.devices.base import Placed
from yolo_slim.measuring.block_costs import (
    BlockCostTable,
    MeasuredBlock,
    RoundMs,
    ScoredData,
    Unpruned,
)
from yolo_slim.measuring.measured_files import CONTROL, MeasuredFiles
from yolo_slim.measuring.validation_images import SPLIT, ValidationImages
from yolo_slim.models import checkpoint
from yolo_slim.pruning.block_cutter import BlockCutter
from yolo_slim.pruning.blockwise import Block
from yolo_slim.stages.context import Context
from yolo_slim.stages.network_meter import NetworkMeter, scratch_folder
from yolo_slim.stages.prune_source import cutter_of
from yolo_slim.workspace.job import Job, versions


@dataclass(frozen=True, kw_only=True)
class BlockMeter:
    """Measures the blocks of one model."""

    job: Job
    loaded: checkpoint.Checkpoint
    config: BlockCostsConfig
    build: BuildName
    """Runtime and precision that are timed."""
    context: Context
    images: ValidationImages
    cutter: BlockCutter

    @property
    def files(self) -> MeasuredFiles:
        """What this job measured so far."""
        return MeasuredFiles(job=self.job)

    def measure(self) -> BlockCostTable:
        """Measure every block, and say how; what the same job measured before is read."""
        context, (control, rows) = self.context, self._measured()
        return BlockCostTable(
            model_sha256=self.loaded.sha256,
            removed=self.config.removed,
            criterion=self.cutter.criterion,
            imgsz=context.imgsz,
            target=context.profile.name,
            runtime=f"{self.build.runtime} {self.build.precision}",
            is_measured_on_target=context.device.is_target(context.profile),
            machine=context.device.facts(),
            measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=context.command,
            versions=versions(),
            data=ScoredData(yaml=context.dataset.yaml.name, split=SPLIT, images=len(self.images.paths)),
            control=control,
            blocks=rows,
        )

    def _measured(self) -> tuple[Unpruned, tuple[MeasuredBlock, ...]]:
        """Measure the unpruned network, then every block against it."""
        progress, blocks = self.context.progress, self._blocks()
        with scratch_folder() as scratch:
            meter = self._meter(scratch)
            onnx = meter.export(self.loaded.model, scratch / "control.onnx")
            control = self.files.read(Unpruned, CONTROL) or self._control(meter, onnx)
            placed = meter.place(onnx, self.build)
            rows = []
            for done, block in enumerate(blocks):
                progress.step("block-costs: blocks", done, len(blocks))
                rows.append(self.files.read_block(block.name) or self._block(meter, block, control, placed))
            progress.step("block-costs: blocks", len(blocks), len(blocks))
        return control, tuple(rows)

    def _blocks(self) -> list[Block]:
        """Score the channels, and say how many blocks are measured already."""
        self.context.progress.say("block-costs: score the channels")
        blocks = self.cutter.blocks
        if before := sum(self.files.read_block(block.name) is not None for block in blocks):
            self.context.progress.say(f"block-costs: resumes after {before} of {len(blocks)} blocks")
        return blocks

    def _meter(self, scratch: Path) -> NetworkMeter:
        return NetworkMeter(
            loaded=self.loaded,
            rounds=self.config.rounds,
            frames=self.config.frames,
            context=self.context,
            images=self.images.link_timed(scratch / "images"),
            log=self.job.folder / "export.log",
        )

    def _control(self, meter: NetworkMeter, onnx: Path) -> Unpruned:
        """Score the unpruned network, as it was trained and with its statistics re-estimated."""
        found = Unpruned(
            model_sha256=self.loaded.sha256,
            map50_95_trained=self.images.map50_95(onnx),
            map50_95=self.images.map50_95(meter.export(self.cutter.restated(), onnx.with_name("restated.onnx"))),
            **self.cutter.size.to_json(),
        )
        self.context.progress.say(
            f"block-costs: unpruned mAP50-95 {found.map50_95_trained:.4f}, with statistics re-estimated "
            f"{found.map50_95:.4f}, on {len(self.images.paths)} {SPLIT} images"
        )
        self.files.write(CONTROL, found)
        return found

    def _block(self, meter: NetworkMeter, block: Block, control: Unpruned, placed: Placed) -> MeasuredBlock:
        """Measure one block."""
        started = time.monotonic()
        cut = self.cutter.cut(block)
        # Removed at once: the files of all blocks together would be twenty times the model's.
        with scratch_folder() as scratch:
            onnx = meter.export(cut.model, scratch / f"{block.name}.onnx")
            accuracy = self.images.map50_95(onnx)
            timing = meter.compare_once(placed, meter.place(onnx, self.build))
        found = MeasuredBlock(
            name=block.name,
            map_cost=control.map50_95 - accuracy,
            ms_gain=timing.ms_gain,
            ms_gain_lowest=float(timing.gains.min()),
            ms_gain_highest=float(timing.gains.max()),
            ms_control=timing.ms_before,
            ms_cut=timing.ms_after,
            round_ms=RoundMs.of(timing),
            invalid_reasons=timing.invalid_reasons,
            threads=timing.threads,
            map50_95=accuracy,
            macs_saved=cut.macs_saved,
            params_saved=cut.params_saved,
            channels=cut.channels,
            channels_kept=cut.channels_kept,
            layers=cut.layers,
            seconds=round(time.monotonic() - started, 1),
        )
        self.context.progress.say(
            f"block-costs: {block.name}: mAP50-95 {-100 * found.map_cost:+.2f} points, {-found.ms_gain:+.3f} ms"
        )
        self.files.write(block.name, found)
        return found


def block_meter(
    job: Job, model: Path, config: BlockCostsConfig, pruning: PruneConfig, build: BuildName, context: Context
) -> BlockMeter:
    """Load what is measured.

    Raises:
        SlimError: an unusable checkpoint, or too few images.
    """
    loaded = checkpoint.load(model)
    checkpoint.require_imgsz(loaded, context.imgsz)
    checkpoint.require_end2end(loaded, asked=context.end2end)
    return BlockMeter(
        job=job,
        loaded=loaded,
        config=config,
        build=build,
        context=context,
        images=ValidationImages.of(context.dataset, config.images),
        cutter=cutter_of(loaded, pruning, job.folder, context, removed=config.removed),
    )
