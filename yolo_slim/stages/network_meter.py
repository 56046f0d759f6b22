"""Score and time networks that differ from a checkpoint: each is exported, scored here, and timed by the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from yolo_slim.build_key import BuildName
from yolo_slim.config.run import BlockCostsConfig, ExportConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.devices.base import Placed
from yolo_slim.errors import SlimError
from yolo_slim.export.bundle_maker import BundleSource, make_timed_bundle
from yolo_slim.export.onnx import export_onnx
from yolo_slim.measuring.accuracy import Truth, read_truth, score
from yolo_slim.measuring.predict import detect_all, onnx_infer
from yolo_slim.models import checkpoint
from yolo_slim.models.exported import layout_of
from yolo_slim.models.ultralytics import log_to
from yolo_slim.progress import Silent
from yolo_slim.runtime.paired import IMAGES, Paired
from yolo_slim.stages.context import Context

SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class ValidationImages:
    """The images that every network is scored on, with what is in them."""

    paths: Sequence[Path]
    truths: Sequence[Truth]
    names: dict[int, str]

    @classmethod
    def of(cls, dataset: Dataset, limit: int) -> ValidationImages:
        """Take the first ``limit`` validation images; 0 takes all.

        Raises:
            SlimError: no validation images.
        """
        paths = dataset.splits.get(SPLIT, [])[: limit or None]
        if not paths:
            raise SlimError(f"{dataset.yaml}: the split '{SPLIT}' has no images.", remedy="Add validation images.")
        return cls(paths=paths, truths=[read_truth(path) for path in paths], names=dataset.names)

    def map50_95(self, onnx: Path) -> float:
        """Score an exported graph."""
        layout = layout_of(onnx)
        found = detect_all(
            self.paths, onnx_infer(onnx), layout=layout.layout, imgsz=layout.imgsz[0], progress=Silent(), text=""
        )
        return score(self.truths, found, self.names).map50_95

    def link_timed(self, folder: Path) -> Path:
        """Link those that networks are timed on into a new folder, in their order."""
        folder.mkdir()
        for number, path in enumerate(self.paths[:IMAGES]):
            (folder / f"{number}_{path.name}").symlink_to(path.absolute())
        return folder


@dataclass(frozen=True, kw_only=True)
class NetworkMeter:
    """Exports networks, and lets the device compare them with the unpruned one."""

    loaded: checkpoint.Checkpoint
    """Where the networks come from."""
    build: BuildName
    """Runtime and precision that are timed."""
    config: BlockCostsConfig
    context: Context
    images: Path
    """Folder of the images that networks are timed on."""
    log: Path
    """Where the exporter's output goes."""

    def export(self, model: nn.Module, onnx: Path) -> Path:
        """Export a network's fp32 graph as the export stage does."""
        weights = onnx.with_suffix(".pt")
        checkpoint.save(weights, self.loaded, model)
        with log_to(self.log):
            export_onnx(weights, ExportConfig(end2end=self.context.end2end), self.context.imgsz, onnx)
        return onnx

    def place(self, onnx: Path) -> Placed:
        """Bring a graph to the device, as a bundle beside its file."""
        folder = onnx.with_name(f"{onnx.stem}-bundle")
        source = BundleSource(name=onnx.stem, exported=onnx, layout=layout_of(onnx), profile=self.context.profile)
        make_timed_bundle(source, self.build, folder)
        return self.context.device.put(folder)

    def compare(self, unpruned: Placed, cut: Placed) -> Paired:
        """Time two networks in the same rounds."""
        rounds, frames = self.config.rounds, self.config.frames
        return self.context.device.time_paired(unpruned, cut, self.images, rounds=rounds, frames=frames)
