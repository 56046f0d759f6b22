"""model.onnx -> int8 and fp16 graphs, and the calibration and layer_errors files that explain the int8 one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.files import sha256
from yolo_slim.progress import Progress, Silent
from yolo_slim.quantization import files as names
from yolo_slim.quantization import fp16, qat_graph
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.calibration_file import load_or_choose, save_or_copy
from yolo_slim.quantization.int8 import Int8Writer
from yolo_slim.quantization.report import images_to_compare, measure_graphs
from yolo_slim.workspace.job import Job, require_manifest

PRECISIONS = names.PRECISIONS


@dataclass(frozen=True, kw_only=True)
class QuantizeInputs:
    """What the stage reads."""

    onnx: Path
    """Exported graph, float; or with Q/DQ nodes from quantization-aware training, whose ranges are used."""
    trained: Path | None = None
    """Export of the same weights with those nodes (``model-qat.onnx``), where ``onnx`` is the float one."""
    data: Path
    """Data set whose training images calibrate int8."""
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
    out_dir: Path,
    *,
    imgsz: int,
    seed: int = 0,
    precisions: Sequence[str] = PRECISIONS,
    data_digest: str = "",
    progress: Progress | None = None,
) -> QuantizeOutputs:
    """Make the graphs of every precision.

    Raises:
        SlimError: not an exported graph or one of another size, an unknown precision, no or bad calibration images, or
            no images, or an int8 graph whose convolutions ONNX Runtime wouldn't run as integers.
    """
    progress = progress or Silent()
    about = graphs.layout_of(inputs.onnx)
    graphs.require_input_size(about, imgsz)
    names.require_precisions(precisions)
    model = graphs.load(inputs.onnx)
    if "int8" in precisions:
        qat_graph.require_trained_ranges(inputs.onnx, model, inputs.trained)
    trained = qat_graph.load_qat_graph(inputs.trained, inputs.onnx, about) if inputs.trained else model
    job = Job(
        stage="quantize",
        folder=out_dir,
        config={**config.model_dump(), "imgsz": imgsz, "seed": seed, "precisions": sorted(precisions)},
        inputs={
            "onnx": sha256(inputs.onnx),
            **({"trained": sha256(inputs.trained)} if inputs.trained else {}),
            "data": data_digest,
            "calibration": sha256(inputs.calibration) if inputs.calibration and inputs.calibration.is_file() else "",
        },
    )
    outputs = planned(out_dir, precisions, quantized=graphs.is_quantized(trained))
    if job.is_done():
        progress.say("quantize: done before, kept")
        return outputs
    dataset = load_dataset(inputs.data)
    images = images_to_compare(dataset, config.parity_images)
    calibration = None
    if outputs.calibration:
        calibration = load_or_choose(inputs.calibration, dataset, config, imgsz=imgsz, seed=seed)
    job.begin()
    if outputs.calibration and calibration:
        save_or_copy(calibration, dataset, outputs.calibration, inputs.calibration)
        Int8Writer(
            model=trained,
            layout=about.layout,
            names=dataset.names,
            calibration=calibration,
            config=config,
            progress=progress,
        ).write(outputs.graphs, outputs.layer_errors)
    if names.FP16 in outputs.graphs:
        graphs.save(fp16.convert(model), outputs.graphs[names.FP16])
    report = measure_graphs(inputs.onnx, outputs.graphs, images, layout=about.layout, imgsz=imgsz)
    files = [*outputs.graphs.values(), *[path for path in (outputs.calibration, outputs.layer_errors) if path]]
    job.finish(files, report.to_json())
    progress.say(f"quantize: distance to fp32: {report}")
    return outputs


def planned(out_dir: Path, precisions: Sequence[str], *, quantized: bool = False) -> QuantizeOutputs:
    """Return the paths that the stage writes for some precisions."""
    int8 = "int8" in precisions
    return QuantizeOutputs(
        graphs={name: out_dir / file for name, file in names.graph_files(precisions).items()},
        calibration=out_dir / names.CALIBRATION_FILE if int8 else None,
        layer_errors=out_dir / names.LAYER_ERRORS_FILE if int8 and not quantized else None,
    )


def graphs_in(folder: Path) -> dict[str, Path]:
    """Return the graphs, by name, that a finished stage left in its folder.

    Raises:
        SlimError: no finished quantize stage there.
    """
    outputs = require_manifest(folder, "quantize")["outputs"]
    return {name: folder / file for name, file in names.graph_files(PRECISIONS).items() if file in outputs}


def layer_errors_in(folder: Path) -> Path | None:
    """Return the ``layer_errors.json`` of a finished stage, None where it made none; raises as :func:`graphs_in`."""
    path = folder / names.LAYER_ERRORS_FILE
    return path if path.name in require_manifest(folder, "quantize")["outputs"] else None
