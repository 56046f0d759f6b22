"""All graphs of one export: what is refused before the first one is made, and making and measuring them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.models.exported import layout_of
from yolo_slim.progress import Progress
from yolo_slim.quantization import files, fp16, qat_graph
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.calibration import Calibration
from yolo_slim.quantization.calibration_file import load_or_choose, save_or_copy
from yolo_slim.quantization.int8 import Int8Writer
from yolo_slim.quantization.report import GraphsReport, images_to_compare, measure_graphs


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the graphs are made from."""

    onnx: Path
    """The float graph."""
    trained: Path | None
    """The graph from quantization-aware training, where there is one."""
    calibration: Path | None
    """An earlier ``calibration.json``; None: images are chosen."""
    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Sources that passed every check."""

    sources: Sources
    config: QuantizeConfig
    model: Any
    """The float graph's ``ModelProto``."""
    int8_model: Any
    """The one that int8 is made from: with Q/DQ nodes of training, or the float one."""
    layout: str
    images: list[Path]
    """On which the graphs are compared with fp32."""
    calibration: Calibration | None
    """None without int8."""

    @property
    def is_qat(self) -> bool:
        """Whether the ranges of int8 come from training."""
        return graphs.is_quantized(self.int8_model)


def check_sources(
    sources: Sources, config: QuantizeConfig, *, imgsz: int, seed: int, precisions: Sequence[str]
) -> Checked:
    """Read everything and refuse what can't be quantized.

    Raises:
        SlimError: not an exported graph or one of another size, an unknown precision, ranges of training that are
            missing or don't fit, no images to compare on, or no or bad calibration images.
    """
    layout = layout_of(sources.onnx)
    graphs.require_input_size(layout, imgsz)
    files.require_precisions(precisions)
    model, is_int8 = graphs.load(sources.onnx), "int8" in precisions
    if is_int8:
        qat_graph.require_trained_ranges(sources.onnx, model, sources.trained)
    trained = qat_graph.load_qat_graph(sources.trained, sources.onnx, layout) if sources.trained else model
    images = images_to_compare(sources.dataset, config.parity_images)
    calibration = None
    if is_int8:
        calibration = load_or_choose(sources.calibration, sources.dataset, config, imgsz=imgsz, seed=seed)
    return Checked(
        sources=sources,
        config=config,
        model=model,
        int8_model=trained,
        layout=layout.layout,
        images=images,
        calibration=calibration,
    )


def make_graphs(
    checked: Checked,
    paths: Mapping[str, Path],
    *,
    calibration_file: Path | None,
    errors_file: Path | None,
    imgsz: int,
    progress: Progress,
) -> GraphsReport:
    """Write the graphs and the files that explain int8, and measure the graphs.

    Args:
        checked: the sources.
        paths: name of a graph to its file.
        calibration_file: where the calibration goes; None without int8.
        errors_file: where the layer errors go; None without int8 or with ranges of training.
        imgsz: input side, pixels.
        progress: listener.

    Raises:
        SlimError: an int8 graph that a runtime wouldn't run as asked, or a weight too large for fp16.
    """
    sources, dataset = checked.sources, checked.sources.dataset
    if calibration_file and checked.calibration:
        save_or_copy(checked.calibration, dataset, calibration_file, sources.calibration)
        Int8Writer(
            model=checked.int8_model,
            layout=checked.layout,
            dataset=dataset,
            calibration=checked.calibration,
            config=checked.config,
            progress=progress,
        ).write(paths, errors_file)
    if files.FP16 in paths:
        # From the float graph also after quantization-aware training: fp16 has no use for ranges.
        graphs.save(fp16.convert(checked.model), paths[files.FP16])
    report = measure_graphs(sources.onnx, paths, checked.images, layout=checked.layout, imgsz=imgsz)
    progress.say(f"quantize: distance to fp32: {report}")
    return report
