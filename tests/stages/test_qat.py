"""Quantization-aware training in the recovery: its ranges reach the int8 graph, and get lost nowhere without a word."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.listeners import Interrupts
from yolo_slim.config.run import ExportConfig, PruneConfig, QuantizeConfig, RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.models import checkpoint
from yolo_slim.quantization import graph
from yolo_slim.quantization.qat_graph import read_qat_graph
from yolo_slim.stages import export, prune, quantize, recover
from yolo_slim.stages.context import Context

MODELOPT = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("modelopt", "huggingface_hub")),
    reason="needs NVIDIA ModelOpt (the extra 'qat')",
)
CONFIG = RecoverConfig(
    epochs=2, distill=1.0, device="cpu", overrides={"quantize": 8, "mosaic": 0.0, "workers": 0, "fraction": 0.5}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this module's stages."""
    return tmp_path_factory.mktemp("qat")


@pytest.fixture(scope="module")
def context(signs: Path) -> Context:
    """Return what this module's stages share."""
    return Context.load(signs, imgsz=64)


@pytest.fixture(scope="module")
def quantized(trained: Path, signs: Path, context: Context, folder: Path) -> Path:
    """Return a checkpoint after two epochs of quantization-aware training, the second one resumed."""
    inputs = recover.RecoverInputs(weights=trained, teacher=trained)
    interrupted = Context.load(signs, imgsz=64, progress=Interrupts("recover: epoch 1"))
    with pytest.raises(KeyboardInterrupt):
        recover.run(inputs, CONFIG, folder / "recover", interrupted)
    outputs = recover.run(inputs, CONFIG, folder / "recover", context)
    assert read_json(folder / "recover" / "manifest.json")["facts"]["resumed"]
    return outputs.weights


@pytest.fixture(scope="module")
def exported(quantized: Path, context: Context, folder: Path) -> export.ExportOutputs:
    """Return both graphs of that checkpoint."""
    return export.run(quantized, ExportConfig(parity_images=2), folder / "export", context)


@MODELOPT
def test_ranges_stay_beside_the_weights(quantized: Path) -> None:
    """The recovered checkpoint is what Ultralytics itself writes: plain layers, and ranges that YOLO() puts back."""
    from ultralytics import YOLO
    from ultralytics.utils.torch_utils import is_qat

    loaded = checkpoint.load(quantized)
    assert loaded.quantization
    assert not is_qat(loaded.model)
    assert is_qat(YOLO(quantized).model)


@MODELOPT
def test_int8_graph_has_the_trained_ranges(exported: export.ExportOutputs, context: Context, folder: Path) -> None:
    """Every convolution that was trained int8 is an integer one in the int8 graph; the float graph stays float."""
    assert exported.trained_int8 is not None
    assert not graph.is_quantized(graph.load(exported.onnx))
    inputs = quantize.QuantizeInputs(onnx=exported.onnx, trained=exported.trained_int8)
    config = QuantizeConfig(images=32, check_images=0, parity_images=2)
    made = quantize.run(inputs, config, folder / "quantize", context)
    assert made.layer_errors is None
    trained = read_qat_graph(graph.load(exported.trained_int8))
    assert (
        read_json(folder / "quantize" / "manifest.json")["facts"]["convolutions"]["integer"] == len(trained.layers) > 60
    )


@MODELOPT
def test_ranges_are_not_forgotten(exported: export.ExportOutputs, context: Context, folder: Path) -> None:
    """The float graph says that its weights were trained quantized: int8 without their ranges is refused, not fp16."""
    inputs = quantize.QuantizeInputs(onnx=exported.onnx)
    with pytest.raises(SlimError, match="quantization-aware training"):
        quantize.run(inputs, QuantizeConfig(), folder / "forgotten", context)
    config = QuantizeConfig(parity_images=2)
    assert set(quantize.run(inputs, config, folder / "fp16", context, precisions=["fp16"]).graphs) == {"fp16"}


@MODELOPT
def test_float_graph_is_no_trained_one(exported: export.ExportOutputs, context: Context, folder: Path) -> None:
    """A float graph in the place of the trained one is refused: its int8 would not be what was trained."""
    inputs = quantize.QuantizeInputs(onnx=exported.onnx, trained=exported.onnx)
    with pytest.raises(SlimError, match="has no Q/DQ nodes"):
        quantize.run(inputs, QuantizeConfig(), folder / "refused", context)


@pytest.fixture(scope="module")
def marked(trained: Path, folder: Path) -> Path:
    """Return a checkpoint that says it was trained quantized, which needs no ModelOpt to read."""
    content: dict[str, Any] = torch.load(trained, weights_only=False)
    path = folder / "marked.pt"
    torch.save({**content, "modelopt": {"modelopt": {}, "ranges": {}}}, path)
    return path


def test_cut_and_float_training_are_refused(marked: Path, trained: Path, context: Context, tmp_path: Path) -> None:
    """Neither prune nor recover takes weights whose ranges it would drop."""
    with pytest.raises(SlimError, match="trained quantized"):
        prune.run(prune.PruneInputs(model=marked), PruneConfig(), tmp_path / "prune", context)
    inputs = recover.RecoverInputs(weights=marked, teacher=trained)
    with pytest.raises(SlimError, match="trained quantized"):
        recover.run(inputs, RecoverConfig(), tmp_path / "recover", context)
    assert not list(tmp_path.iterdir())


def test_missing_modelopt_is_named(
    marked: Path, trained: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ModelOpt neither the training nor the export begins."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SlimError, match="ModelOpt"):
        export.run(marked, ExportConfig(), tmp_path / "export", context)
    inputs = recover.RecoverInputs(weights=trained, teacher=trained)
    for spelled in (8, "int8", "w8a8"):
        config = CONFIG.model_copy(update={"overrides": {"quantize": spelled}})
        with pytest.raises(SlimError, match="ModelOpt"):
            recover.run(inputs, config, tmp_path / "recover", context)
    assert not list(tmp_path.iterdir())
