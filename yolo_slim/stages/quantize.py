"""model.onnx -> int8 and fp16 graphs, and the calibration and layer_errors files that explain the int8 one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.errors import SlimError
from yolo_slim.quantization import files as names
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content, require_manifest
from yolo_slim.workspace.up_to_date import run_once

if TYPE_CHECKING:
    from yolo_slim.quantization.make import Checked

REVISION = 4
"""Raised when equal graphs are quantized otherwise; 3: ReLU is part of the integer convolutions."""
PACKAGES = ("onnx", "onnxruntime", "numpy", "opencv-python", "ultralytics")
"""Packages that compute ranges and graphs; Ultralytics counts the mAP that decides what stays float."""
PRECISIONS = names.PRECISIONS


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
    precisions: Sequence[str] = PRECISIONS,
) -> QuantizeOutputs:
    """Make the graphs of every precision.

    Raises:
        SlimError: not an exported graph or one of another size, an unknown precision, no or bad calibration images, or
            no images, or an int8 graph whose convolutions ONNX Runtime wouldn't run as integers.
    """

    def check() -> Checked:
        from yolo_slim.quantization.make import Sources, check_sources

        sources = Sources(
            onnx=inputs.onnx, trained=inputs.trained, calibration=inputs.calibration, dataset=context.dataset
        )
        return check_sources(sources, config, imgsz=context.imgsz, seed=context.seed, precisions=precisions)

    def make(checked: Checked) -> Made:
        from yolo_slim.quantization.make import make_graphs

        outputs = expected_outputs(folder, precisions, quantized=checked.is_qat)
        report = make_graphs(
            checked,
            outputs.graphs,
            calibration_file=outputs.calibration,
            errors_file=outputs.layer_errors,
            imgsz=context.imgsz,
            progress=context.progress,
        )
        files = [*outputs.graphs.values(), outputs.calibration, outputs.layer_errors]
        return Made(outputs=[path for path in files if path], facts=report.to_json())

    manifest = run_once(job_of(inputs, config, folder, context, precisions), make, context, check=check)
    return written_in(folder, manifest.outputs)


def job_of(
    inputs: QuantizeInputs, config: QuantizeConfig, folder: Path, context: Context, precisions: Sequence[str]
) -> Job:
    """Say what decides the stage's result."""
    files = {"onnx": inputs.onnx, "trained": inputs.trained, "calibration": inputs.calibration}
    return Job(
        stage="quantize",
        folder=folder,
        settings={
            **config.model_dump(), "imgsz": context.imgsz, "seed": context.seed, "precisions": sorted(precisions),
        },
        inputs={
            **{role: content(path) for role, path in files.items() if path}, "data": context.dataset.digest,
        },
        revision=REVISION,
        packages=PACKAGES,
    )  # fmt: skip


def written_in(folder: Path, files: Collection[str]) -> QuantizeOutputs:
    """Say what a finished stage wrote, from the files that its manifest lists."""
    there = {file: folder / file for file in files}
    return QuantizeOutputs(
        graphs={name: there[file] for name, file in names.graph_files(PRECISIONS).items() if file in there},
        calibration=there.get(names.CALIBRATION_FILE),
        layer_errors=there.get(names.LAYER_ERRORS_FILE),
    )


def expected_outputs(out_dir: Path, precisions: Sequence[str], *, quantized: bool = False) -> QuantizeOutputs:
    """Return the paths that the stage writes for some precisions."""
    int8 = "int8" in precisions
    return QuantizeOutputs(
        graphs={name: out_dir / file for name, file in names.graph_files(precisions).items()},
        calibration=out_dir / names.CALIBRATION_FILE if int8 else None,
        layer_errors=out_dir / names.LAYER_ERRORS_FILE if int8 and not quantized else None,
    )


def finished_in(folder: Path, onnx: Path | None = None) -> QuantizeOutputs:
    """Say what a finished stage left in its folder.

    Args:
        folder: of the stage.
        onnx: what its graphs must be made from; None: anything.

    Raises:
        SlimError: no finished quantize stage there, or one of another graph.
    """
    manifest = require_manifest(folder, "quantize")
    if onnx is not None and manifest.inputs.get("onnx") != content(onnx):
        raise SlimError(
            f"The graphs in {folder} weren't made from {onnx}: they have other weights.",
            remedy=f"Make them from it: yolo-slim quantize {onnx}, with another --out.",
        )
    return written_in(folder, manifest.outputs)
