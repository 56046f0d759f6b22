"""Competing builds: one that loses more than its own budget is out, and the result says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo_slim.build_key import BuildKey
from yolo_slim.config import targets
from yolo_slim.config.profile import Budget, RuntimeChoice
from yolo_slim.config.run import ExportConfig, QuantizeConfig, ValidateConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.stages import build, export, quantize, validate
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.verdict.result import Result

IMGSZ = 128


def spoil(path: Path) -> None:
    """Make the weights of an int8 graph's first quantized layers four times as large."""
    model = onnx.load(str(path))
    scales = {n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    per_channel = [t for t in model.graph.initializer if t.name in scales and np.prod(t.dims) > 1]
    for tensor in per_channel[:3]:
        tensor.CopyFrom(numpy_helper.from_array(4 * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, str(path))


@pytest.fixture(scope="module")
def judge(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Result]:
    """Return what judges a target that tries a spoiled int8 build first, then fp32, with or without their ONNX."""
    out = tmp_path_factory.mktemp("judged")
    profile = targets.load("host").model_copy(
        update={
            "runtimes": [RuntimeChoice(runtime="onnxruntime", precisions=["int8", "fp32"])],
            "budget": Budget(max_map50_95_drop=0.2),
        }
    )
    context = Context(dataset=load_dataset(signs), profile=profile, imgsz=IMGSZ)
    graph = export.run(trained, ExportConfig(parity_images=2), out / "export", context).onnx
    config = QuantizeConfig(images=32, scan_images=1, check_images=0, parity_images=2)
    quantized = quantize.run(
        quantize.QuantizeInputs(onnx=graph), config, out / "quantize", context, precisions=["int8"]
    )
    spoil(quantized.graphs["int8"])
    made = build.BuildInputs(onnx=graph, images=selfcheck_images(context.dataset), graphs=quantized.graphs)
    built = build.run(made, out / "build", context, name="t")

    def result(with_onnx: bool) -> Result:
        outputs = validate.run(
            validate.ValidateInputs(
                control=trained,
                onnx=graph if with_onnx else None,
                bundles={BuildKey("slim", build): folder for build, folder in built.bundles.items()},
                layer_errors=quantized.layer_errors,
            ),
            ValidateConfig(min_seconds=0.1, min_queries=10, rounds=1, busy="mark", breakdown=False),
            out / f"validate-{with_onnx}",
            context,
            name="judged",
        )
        return Result.load(outputs.result)

    return result


@pytest.fixture(scope="module")
def judged(judge: Callable[[bool], Result]) -> Result:
    """Return the result of the builds beside the ONNX that they were made of."""
    return judge(True)


def test_the_other_build_wins(judged: Result) -> None:
    """Though int8 stands first and inside the target's budget, fp32 wins, and the verdict isn't spoiled."""
    assert [str(build.key) for build in judged.builds] == ["slim/onnxruntime-int8", "slim/onnxruntime-fp32"]
    assert str(judged.winner) == "slim/onnxruntime-fp32"
    rungs = {rung.rung: rung.status for rung in judged.ladder}
    assert (rungs["onnxruntime-int8"], rungs["onnxruntime-fp32"]) == ("fail", "pass")
    assert judged.verdict.status == "pass", judged.verdict
    assert "rung:onnxruntime-int8" not in {gate.name for gate in judged.verdict.gates}


def test_the_note_says_why(judged: Result) -> None:
    """The note names the build, what it lost, the class that lost most and the layer to look at first."""
    (note,) = [note for note in judged.notes if note.startswith("onnxruntime-int8 can't win")]
    assert "0.0050 allowed" in note
    assert "most in class" in note
    assert "the first layer to look at is model." in note


def test_budget_of_building_alone(judge: Callable[[bool], Result]) -> None:
    """Compared with the control, a bundle's drop contains the pruning too: only the target's own budget counts."""
    found = judge(False)
    rungs = {rung.rung: (rung.against, rung.budget, rung.status) for rung in found.ladder[1:]}
    assert rungs == dict.fromkeys(["onnxruntime-int8", "onnxruntime-fp32"], ("control", None, "info"))
    assert "max_map50_95_drop" in {gate.name for gate in found.verdict.gates}


def test_the_result_reads_back(judged: Result) -> None:
    """What was written is what was measured."""
    assert Result.from_json(judged.to_json()) == judged
