"""model.onnx -> int8 and fp16 graphs, and the calibration and layer_errors files that explain the int8 one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.quantization import files as names
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content, require_manifest, run_once

if TYPE_CHECKING:
    from yolo_slim.quantization.calibration import Calibration

REVISION = 1
"""Raised when equal graphs are quantized otherwise."""
PACKAGES = ("onnx", "onnxruntime", "numpy", "opencv-python", "ultralytics")
"""Packages that compute ranges and graphs; Ultralytics counts the mAP that decides what stays float."""


@dataclass(frozen=True, kw_only=True)
class QuantizeInputs:
    """What the stage reads."""

    onnx: Path
    """Exported graph, float; or with Q/DQ nodes from quantization-aware training, whose ranges are used."""
    trained: Path | None = None
    """Export of the same weights with those nodes (``model-qat.onnx``), where ``onnx`` is the float one."""
    calibration: Path | None = None
    """An earlier ``calibration.json``, so that several graphs share one; absent: a new one is made."""


@dataclass(frozen=True, kw_only=True)
class QuantizeOutputs:
    """What the stage wrote."""

    graphs: dict[str, Path]
    """``int8`` (ONNX Runtime), ``int8-tensorrt`` and ``fp16`` to the graph, as far as they were asked for."""
    calibration: Path | None
    """``calibration.json``; None without int8."""
    layer_errors: Path | None
    """``layer_errors.json``; None without int8, or when ranges come from training."""


def run(
    inputs: QuantizeInputs,
    config: QuantizeConfig,
    folder: Path,
    context: Context,
    *,
    precisions: Sequence[str] = names.PRECISIONS,
) -> QuantizeOutputs:
    """Make the graphs of every precision.

    Raises:
        SlimError: not an exported graph or one of another size, an unknown precision, no or bad calibration images, or
            no images, or an int8 graph whose convolutions ONNX Runtime wouldn't run as integers.
    """
    job = job_of(inputs, config, folder, context, precisions)

    def check() -> _Checked:
        return _checked(inputs, config, context, precisions)

    def make(found: _Checked) -> Made:
        expected = expected_outputs(folder, precisions, is_quantized=found.is_quantized)
        return _made(found, inputs, config, expected, context)

    return written_in(folder, run_once(job, make, context, check=check).outputs)


def job_of(
    inputs: QuantizeInputs, config: QuantizeConfig, folder: Path, context: Context, precisions: Sequence[str]
) -> Job:
    """Say what decides the stage's result."""
    read = {"onnx": inputs.onnx, "trained": inputs.trained, "calibration": inputs.calibration}
    shared = {"imgsz": context.imgsz, "seed": context.seed, "precisions": sorted(precisions)}
    return Job(
        stage="quantize",
        folder=folder,
        settings={**config.model_dump(), **shared},
        inputs={**{role: content(path) for role, path in read.items() if path}, "data": context.dataset.digest},
        revision=REVISION,
        packages=PACKAGES,
    )


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """What was read before the first graph is made."""

    model: Any
    """The float graph."""
    trained: Any
    """The graph whose ranges are used: of quantization-aware training, or the float one."""
    is_quantized: bool
    layout: str
    images: list[Path]
    calibration: Calibration | None


def _checked(inputs: QuantizeInputs, config: QuantizeConfig, context: Context, precisions: Sequence[str]) -> _Checked:
    """Refuse what can't be quantized."""
    from yolo_slim.quantization import graph, qat_graph
    from yolo_slim.quantization.calibration_file import load_or_choose
    from yolo_slim.quantization.report import images_to_compare

    about = graph.layout_of(inputs.onnx)
    graph.require_input_size(about, context.imgsz)
    names.require_precisions(precisions)
    model = graph.load(inputs.onnx)
    calibration = None
    if "int8" in precisions:
        qat_graph.require_trained_ranges(inputs.onnx, model, inputs.trained)
    trained = qat_graph.load_qat_graph(inputs.trained, inputs.onnx, about) if inputs.trained else model
    images = images_to_compare(context.dataset, config.parity_images)
    if "int8" in precisions:
        calibration = load_or_choose(
            inputs.calibration, context.dataset, config, imgsz=context.imgsz, seed=context.seed
        )
    return _Checked(
        model=model,
        trained=trained,
        is_quantized=graph.is_quantized(trained),
        layout=about.layout,
        images=images,
        calibration=calibration,
    )


def _made(
    found: _Checked, inputs: QuantizeInputs, config: QuantizeConfig, outputs: QuantizeOutputs, context: Context
) -> Made:
    """Make the graphs, and measure how far they are from fp32."""
    from yolo_slim.quantization import fp16, graph
    from yolo_slim.quantization.calibration_file import save_or_copy
    from yolo_slim.quantization.int8 import Int8Writer
    from yolo_slim.quantization.report import measure_graphs

    if outputs.calibration and found.calibration:
        save_or_copy(found.calibration, context.dataset, outputs.calibration, inputs.calibration)
        Int8Writer(
            model=found.trained,
            layout=found.layout,
            names=context.dataset.names,
            calibration=found.calibration,
            config=config,
            progress=context.progress,
        ).write(outputs.graphs, outputs.layer_errors)
    if names.FP16 in outputs.graphs:
        graph.save(fp16.convert(found.model), outputs.graphs[names.FP16])
    report = measure_graphs(inputs.onnx, outputs.graphs, found.images, layout=found.layout, imgsz=context.imgsz)
    context.progress.say(f"quantize: distance to fp32: {report}")
    others = [path for path in (outputs.calibration, outputs.layer_errors) if path]
    return Made(outputs=[*outputs.graphs.values(), *others], facts=report.to_json())


def expected_outputs(folder: Path, precisions: Sequence[str], *, is_quantized: bool) -> QuantizeOutputs:
    """Say what the stage writes; a graph that came quantized has no layer errors."""
    int8 = "int8" in precisions
    return QuantizeOutputs(
        graphs={name: folder / file for name, file in names.graph_files(precisions).items()},
        calibration=folder / names.CALIBRATION_FILE if int8 else None,
        layer_errors=folder / names.LAYER_ERRORS_FILE if int8 and not is_quantized else None,
    )


def written_in(folder: Path, files: Collection[str]) -> QuantizeOutputs:
    """Say what a finished stage wrote, from the files that its manifest lists."""

    def written(name: str) -> Path | None:
        return folder / name if name in files else None

    graphs = names.graph_files(names.PRECISIONS)
    return QuantizeOutputs(
        graphs={name: folder / file for name, file in graphs.items() if file in files},
        calibration=written(names.CALIBRATION_FILE),
        layer_errors=written(names.LAYER_ERRORS_FILE),
    )


def finished_in(folder: Path) -> QuantizeOutputs:
    """Say what a finished stage left in its folder.

    Raises:
        SlimError: no finished quantize stage there.
    """
    return written_in(folder, require_manifest(folder, "quantize").outputs)
