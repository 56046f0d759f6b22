"""Every family and task: the cut is exact, the stage reaches its target, and plain Ultralytics takes the result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

from tests.helpers import tiny_data
from tests.helpers.bare_process import BareUltralytics
from tests.helpers.cuts import TOLERANCE, assert_exact, by_output, distance, masked, random_plan, written
from yolo_slim.config.run import PruneConfig
from yolo_slim.files import read_json
from yolo_slim.models.macs import exported_layers, measure
from yolo_slim.pruning.surgery import apply_plan
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context

ALL = tuple(tiny_data.SUFFIX)
SMALLEST = {
    "yolov5n": ("detect",),
    "yolov8n": ALL,
    "yolov9t": ("detect",),
    "yolov10n": ("detect",),
    "yolo11n": ALL,
    "yolo12n": ALL,
    "yolo26n": ALL,
}
ROWS = [(family, task) for family, family_tasks in SMALLEST.items() for task in family_tasks]
OTHER_BLOCKS = [("yolov9c", "segment"), ("yolov9e", "detect"), ("yolo12l", "detect"), ("yolov8n-ghost", "detect")]
"""ADown, CBLinear and CBFuse, the scaled residual of A2C2f, ghost convolutions."""


@pytest.mark.parametrize(("family", "task"), [*ROWS, *OTHER_BLOCKS])
def test_pruned_equals_masked(family: str, task: str) -> None:
    """The cut network computes what the uncut one does with the removed channels' readers set to zero."""
    model = tiny_data.network(family, task)
    cut, plan = assert_exact(model)
    assert measure(cut, 64).macs < 0.6 * measure(model, 64).macs
    assert random_plan(cut).layers.keys() == plan.layers.keys(), "a cut network can be traced and cut again"


def test_masking_the_writers_is_not_the_same() -> None:
    """Zeroing what writes a removed channel leaves its normalisation's shift: the comparison above isn't vacuous."""
    model = tiny_data.network("yolo11n", "segment")
    plan, cut = random_plan(model), copy.deepcopy(model)
    apply_plan(cut, plan)
    assert distance(written(cut, plan), written(masked(model, plan, outputs=True), plan), plan) > 1e-2


def test_one_wrong_column_is_found_in_every_layer() -> None:
    """A layer that reads one wrong channel fails the comparison, wherever it is; the answers alone don't show it."""
    model = tiny_data.network("yolov8n", "detect")
    cut, plan = assert_exact(model)
    wanted = written(masked(model, plan), plan)
    layers = [name for name, layer in plan.layers.items() if len(layer.inputs or ()) < (layer.inputs_before or 0)]
    unseen = 0
    for name in layers:
        gone = next(i for i in range(plan.layers[name].inputs_before or 0) if i not in (plan.layers[name].inputs or ()))
        weight, uncut = by_output(cut.get_submodule(name)), by_output(model.get_submodule(name))
        right = weight[:, 0].clone()
        weight[:, 0] = uncut[list(plan.layers[name].outputs), gone]
        found = written(cut, plan)
        assert distance(found, wanted, plan) > 10 * TOLERANCE, name
        unseen += distance({"": found[""]}, wanted, plan) < 10 * TOLERANCE
        weight[:, 0] = right
    assert unseen > len(layers) / 2, "layers are compared because the answers hide them"
    assert distance(written(cut, plan), wanted, plan) < TOLERANCE


@pytest.fixture(scope="module")
def rare() -> nn.Module:
    """Return a network with a scaled residual, both kinds of attention and a transposed convolution with a bias."""
    layers = [
        [-1, 1, "Conv", [64, 3, 8]],
        [-1, 2, "A2C2f", [64, True, 1, True]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 1, "C2PSA", [256]],
    ]
    head = [[[1, 3], 1, "Segment", ["nc", 32, 64]]]
    description = {"nc": 3, "backbone": layers, "head": head, "scales": {"n": [1, 1, 1024]}, "scale": "n"}
    return tiny_data.randomised(tasks.SegmentationModel(description, verbose=False))


def first_gammas(cut: Any, uncut: Any) -> None:
    """Keep the first values of A2C2f's ``gamma``."""
    cut.model[1].gamma.data = uncut.model[1].gamma.data[: len(cut.model[1].gamma)].clone()


def first_biases(cut: Any, uncut: Any) -> None:
    """Keep the first biases of a transposed convolution."""
    up = cut.model[-1].proto.upsample
    up.bias.data = uncut.model[-1].proto.upsample.bias.data[: len(up.bias)].clone()


def turned_heads(cut: Any, uncut: Any) -> None:
    """Read the values of the attention heads in reverse."""
    attention = cut.model[3].m[0].attn
    weight = attention.proj.conv.weight
    heads = weight.data.reshape(len(weight), attention.num_heads, -1)
    weight.data = heads.flip(1).reshape(weight.shape)


@pytest.mark.parametrize("mistake", [first_gammas, first_biases, turned_heads])
def test_other_mistakes_are_found(rare: nn.Module, mistake: Callable[[Any, Any], None]) -> None:
    """Wrong values of a scaled residual or a bias, and heads in another order, fail the comparison too."""
    cut, plan = assert_exact(rare)
    mistake(cut, rare)
    assert distance(written(cut, plan), written(masked(rare, plan), plan), plan) > 100 * TOLERANCE


@pytest.mark.parametrize(("family", "attribute"), [("yolo12n", "num_heads"), ("yolo11n", "head_dim")])
def test_attention_is_cut(family: str, attribute: str) -> None:
    """A2C2f loses whole heads, C2PSA a share of every head; the stock attributes follow."""
    model = tiny_data.network(family, "detect")
    cut = copy.deepcopy(model)
    apply_plan(cut, random_plan(model))
    before, after = (
        [getattr(module, attribute) for module in net.modules() if hasattr(module, "qkv")] for net in (model, cut)
    )
    assert before
    assert after == [max(1, value // 2) for value in before]


def test_exported_layers_leave_out_what_fusing_drops() -> None:
    """One of two heads, the training-only branches and the second kernel of a re-parametrised block don't count."""
    layers = exported_layers(tiny_data.network("yolo26n", "segment"), end2end=False)
    assert not [name for name in layers if "one2one" in name or "semseg" in name]
    rep = exported_layers(tiny_data.network("yolov9t", "detect"), end2end=False)
    assert [name for name in rep if name.endswith(".conv1.conv")]
    assert not [name for name in rep if name.endswith(".conv2.conv")]


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, prune.PruneOutputs]]:
    """A function from family and task to the data set and the stage's outputs at half the MACs, by l2."""
    folder = tmp_path_factory.mktemp("coverage")
    done: dict[tuple[str, str], prune.PruneOutputs] = {}

    def make(family: str, task: str) -> tuple[Path, prune.PruneOutputs]:
        data = folder / task / "data"
        data = tiny_data.make(data, task) if not data.exists() else data / ("data.yaml" if task != "classify" else "")
        if (family, task) not in done:
            model = tiny_data.save(tiny_data.network(family, task), folder / f"{family}-{task}.pt")
            config = PruneConfig(macs_removed=0.5, criterion="l2", steps=1, images=8, bn_images=8)
            out = folder / f"{family}-{task}"
            with pytest.MonkeyPatch.context() as patch:
                # At 64 px threads wait for each other longer than they compute.
                patch.setattr("yolo_slim.models.ultralytics.cores", lambda: 1)
                done[family, task] = prune.run(
                    prune.PruneInputs(model=model), config, out, Context.load(data, imgsz=64)
                )
        return data, done[family, task]

    return make


@pytest.mark.parametrize(("family", "task"), ROWS)
def test_stage_halves_the_macs(family: str, task: str, halved: Callable[..., Any]) -> None:
    """The stage reaches half the MACs of every family and task, and the reloaded file computes and counts the same."""
    outputs = halved(family, task)[1]
    table = read_json(outputs.widths)
    assert table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.5, abs=0.03)
    model = YOLO(outputs.weights).model
    assert type(model).__module__ == "ultralytics.nn.tasks"
    assert measure(model, 64).macs == table["slim"]["macs"]


@pytest.mark.parametrize("task", ALL)
def test_bare_environment(task: str, halved: Callable[..., Any], bare: BareUltralytics) -> None:
    """Plain Ultralytics loads, validates and exports every family's pruned network, with yolo_slim out of reach."""
    made = [halved(family, task) for family, tasks_of in SMALLEST.items() if task in tasks_of]
    found = bare.use(made[0][0], 64, *(outputs.weights for _, outputs in made))
    assert not [row for row in found if not row["exports"]]
