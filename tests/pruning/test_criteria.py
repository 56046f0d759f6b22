"""Scores: equal to torch-pruning's where both can score, right on filters made to measure, and on enough data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn

from tests.helpers import plans
from yolo_slim.config.run import PruneConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.labels import LabelFormat
from yolo_slim.datasets.quickstart.signs import NAMES
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.importance import gradients_enabled, losses, require_images, score, with_criterion
from yolo_slim.pruning.magnitude import bn_scale, label_count, lamp, magnitude, normalized
from yolo_slim.stages import plan, prune
from yolo_slim.stages.context import Context
from yolo_slim.training.batches import batches
from yolo_slim.training.phase import Phase, add_l1_gradient

ROOTS = ("model.0.conv", "model.2.cv1.conv", "model.4.m.0.cv1.conv", "model.8.cv3.conv", "model.13.cv2.conv")
"""Convolutions of yolov5n whose groups are small and large, with and without shortcut and concatenation."""
LABELS = LabelFormat(task="detect", classes=len(NAMES))
WEIGHTS = [nn.modules.conv._ConvNd, nn.Linear]


@pytest.fixture(scope="module")
def traced(untrained: Callable[[str], Path]) -> tuple[nn.Module, ChannelGraph, Any]:
    """Return a yolov5n, which has no block that torch-pruning fails on, with both graphs."""
    model = checkpoint.load(untrained("yolov5n")).model
    graph = trace_channels(model, 64)
    model.requires_grad_(True)
    theirs = tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, 3, 64, 64))
    return model, graph, theirs


def group_scores(model: nn.Module, theirs: Any, rate: Any, root: str) -> np.ndarray:
    """Return torch-pruning's score of every output of a convolution."""
    layer = model.get_submodule(root)
    group = theirs.get_pruning_group(layer, tp.prune_conv_out_channels, idxs=list(range(layer.out_channels)))
    return np.asarray(rate(group).detach().double().numpy())


@pytest.mark.parametrize("root", ROOTS)
def test_magnitudes_equal_torch_prunings(root: str, traced: tuple[nn.Module, ChannelGraph, Any]) -> None:
    """Sums of |w|, w^2 and |gamma| over a coupled group are torch-pruning's."""
    model, graph, theirs = traced
    plain = {"group_reduction": "sum", "normalizer": None}
    rates = {
        "l1": tp.importance.GroupMagnitudeImportance(p=1, target_types=WEIGHTS, **plain),
        "l2": tp.importance.GroupMagnitudeImportance(p=2, target_types=WEIGHTS, **plain),
        "bn": tp.importance.BNScaleImportance(**plain),
    }
    for criterion, rate in rates.items():
        ours = magnitude(model, graph, criterion)[graph.convs[root].outputs]
        assert ours == pytest.approx(group_scores(model, theirs, rate, root), rel=1e-4), criterion


@pytest.mark.parametrize("criterion", ["taylor", "hessian"])
def test_gradients_equal_torch_prunings(
    criterion: str, traced: tuple[nn.Module, ChannelGraph, Any], signs: Path
) -> None:
    """Taylor and Hessian scores of one batch are torch-pruning's on the same gradients."""
    model, graph, theirs = traced
    images = load_dataset(signs).splits["train"][:4]
    rates = {"taylor": tp.importance.GroupTaylorImportance, "hessian": tp.importance.GroupHessianImportance}
    rate = rates[criterion](group_reduction="sum", normalizer=None, target_types=WEIGHTS)
    with with_criterion(model):
        ours = score(model, graph, criterion, lambda: batches(images, 64, 4, LABELS), 0)
        with gradients_enabled(model, weights=True):
            for loss, _ in losses(model, batches(images, 64, 4, LABELS)):
                loss.backward()  # type: ignore[no-untyped-call]
            for parameter in model.parameters():
                if criterion == "hessian" and parameter.grad is not None:
                    parameter.grad.pow_(2)
            wanted = {root: group_scores(model, theirs, rate, root) for root in ROOTS}
    model.requires_grad_(True)
    for root, values in wanted.items():
        assert ours[graph.convs[root].outputs] == pytest.approx(values, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("family", ["yolov8n", "yolo11n"])
def test_fisher_is_the_squared_gradient_of_gates(family: str, untrained: Callable[[str], Path], signs: Path) -> None:
    """Scores are those of explicit gates, one an image and label, on everything that reads the label's channel."""
    model = checkpoint.load(untrained(family)).model
    graph = trace_channels(model, 64)
    images = load_dataset(signs).splits["train"][:3]
    modules = dict(model.named_modules())
    with with_criterion(model):
        ours = score(model, graph, "fisher", lambda: batches(images, 64, 2, LABELS), 0)
        wanted, batch_scores = np.zeros(label_count(graph)), 0.0
        with gradients_enabled(model, weights=False):
            for batch in batches(images, 64, 2, LABELS):
                gate = torch.ones(len(batch["img"]), label_count(graph), dtype=torch.double, requires_grad=True)

                def gated(name: str, gate: torch.Tensor = gate) -> Callable[..., Any]:
                    labels = torch.from_numpy(graph.convs[name].inputs)

                    def forward(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
                        return (args[0] * gate[:, labels, None, None].float(),)

                    return forward

                handles = [modules[name].register_forward_pre_hook(gated(name)) for name in graph.convs]
                (loss, _), *_ = losses(model, [batch])
                loss.backward()  # type: ignore[no-untyped-call]
                for handle in handles:
                    handle.remove()
                assert gate.grad is not None
                wanted += (gate.grad**2).sum(dim=0).numpy() / len(images)
                batch_scores = batch_scores + (gate.grad.sum(dim=0) ** 2).numpy()
    assert (wanted > 0).mean() > 0.7
    assert ours == pytest.approx(wanted, rel=1e-3, abs=0)
    # Negative control: the gradient of a whole batch, squared, is another score.
    assert ours != pytest.approx(batch_scores / len(images), rel=0.1, abs=0)


def test_head_that_is_exported_counts_like_the_rest(untrained: Callable[[str], Path], signs: Path) -> None:
    """Exported end2end, yolo26's one-to-one head is scored by its whole loss, as the backbone is by the other's.

    Ultralytics begins a training with a fifth and four fifths of them; fisher is a squared gradient.
    """
    model = checkpoint.load(untrained("yolo26n")).model
    graph = trace_channels(model, 64)
    images = load_dataset(signs).splits["train"][:4]
    found = []
    for end2end in (False, True):
        with with_criterion(model, end2end=end2end):
            found.append(score(model, graph, "fisher", lambda: batches(images, 64, 4, LABELS), 0))
    for name, factor in (("model.23.one2one_cv2.0.0.conv", 1 / 0.2), ("model.2.cv1.conv", 1 / 0.8)):
        before, after = (scores[graph.convs[name].outputs] for scores in found)
        assert (before > 0).any()
        assert after == pytest.approx(factor**2 * before, rel=1e-3, abs=1e-12), name


def test_lamp_by_hand() -> None:
    """Each score is a share of those at least as large in its space (Lee et al. 2021, eq. 4, on channels)."""
    spaces = [SimpleNamespace(channels=np.array(labels)) for labels in ([3, 0, 1], [2])]
    graph: Any = SimpleNamespace(spaces=spaces)
    assert lamp(graph, np.array([4.0, 1.0, 7.0, 3.0])) == pytest.approx([1.0, 1 / 8, 1.0, 3 / 7])


def test_fpgm_finds_the_filter_that_others_stand_in_for(untrained: Callable[[str], Path]) -> None:
    """Among equal filters and one apart, FPGM keeps the one apart, where L2 keeps the larger ones."""
    model = checkpoint.load(untrained("yolov8n")).model
    graph = trace_channels(model, 64)
    model.get_submodule("model.0.conv").weight.data[:] = 1.0  # type: ignore[operator, union-attr]
    model.get_submodule("model.0.conv").weight.data[5] = 0.1  # type: ignore[operator, union-attr]
    model.get_submodule("model.1.conv").weight.data[:] = 1.0  # type: ignore[operator, union-attr]
    labels = graph.convs["model.0.conv"].outputs
    assert magnitude(model, graph, "fpgm")[labels].argmax() == 5
    assert magnitude(model, graph, "l2")[labels].argmin() == 5


def test_bn_scale_has_nothing_to_say_without_normalisation(untrained: Callable[[str], Path]) -> None:
    """Labels that no batch normalisation reads are NaN, all others are their scales."""
    model = checkpoint.load(untrained("yolov8n")).model
    graph = trace_channels(model, 64)
    scores = bn_scale(model, graph)
    assert np.isnan(scores[graph.convs["model.22.cv3.0.2"].outputs]).all()
    wanted = model.get_submodule("model.0.bn").weight.detach().abs().double().numpy()  # type: ignore[operator, union-attr]
    assert scores[graph.convs["model.0.conv"].outputs] == pytest.approx(wanted)


@pytest.mark.parametrize(("normalize", "reduce"), [("sum", np.sum), ("mean", np.mean), ("max", np.max)])
def test_normalisation_is_per_space(
    normalize: str, reduce: Callable[..., float], untrained: Callable[[str], Path]
) -> None:
    """Scores are relative to their own space, so that a layer of another scale is no longer ahead."""
    model = checkpoint.load(untrained("yolov8n")).model
    graph = trace_channels(model, 64)
    raw = np.random.default_rng(0).random(label_count(graph)) + 0.5
    raw[graph.convs["model.0.conv"].outputs] *= 1000
    scaled = normalized(graph, raw, normalize)
    assert all(reduce(scaled[space.channels]) == pytest.approx(1.0) for space in graph.spaces)
    assert normalized(graph, raw, "none") is raw


@pytest.fixture
def few(signs: Path, tmp_path: Path) -> Path:
    """The data.yaml of five of the signs' images."""
    root = tmp_path / "few"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for image in load_dataset(signs).splits["train"][:5]:
        label = image.parents[2] / "labels" / "train" / f"{image.stem}.txt"
        (root / "images" / image.name).write_bytes(image.read_bytes())
        (root / "labels" / label.name).write_bytes(label.read_bytes())
    text = signs.read_text().replace("images/train", "images").replace("images/val", "images")
    lines = [line for line in text.splitlines() if not line.startswith(("test", "path"))]
    (root / "data.yaml").write_text("\n".join(lines))
    return root / "data.yaml"


def test_too_few_images_for_gradients(few: Path, trained: Path, context: Context, tmp_path: Path) -> None:
    """Criteria with gradients say how many images they want before any work; the others don't mind."""
    require_images("lamp", 3)
    require_images("fisher", 16)
    with pytest.raises(SlimError, match="has 15 images; criterion taylor needs at least 16"):
        require_images("taylor", 15)
    with_few = Context.load(few, imgsz=64)
    with pytest.raises(SlimError, match="has 5 images; criterion fisher needs at least 16"):
        prune.run(prune.PruneInputs(model=trained), PruneConfig(), tmp_path / "out", with_few)
    assert not (tmp_path / "out" / "pruned.pt").exists()
    # A plan of that criterion scores nothing, so these images are enough.
    config = PruneConfig(steps=1, images=16, bn_images=5)
    made = plan.make(trained, config, tmp_path / "plan", context)
    assert plans.apply(made.plan, trained, tmp_path / "out", with_few).weights.exists()


def test_l1_penalty_pulls_scales_to_zero() -> None:
    """Each step moves every scale towards zero by its strength, and leaves convolutions alone."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[1].weight.data = torch.tensor([2.0, -2.0, 0.5, 0.0])  # type: ignore[union-attr]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    add_l1_gradient(model, 0.1)
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert model[1].weight.tolist() == pytest.approx([1.9, -1.9, 0.4, 0.0])  # type: ignore[operator, union-attr]
    assert model[0].weight.grad.abs().sum() == 0  # type: ignore[operator, union-attr]


@pytest.mark.parametrize(("task", "images"), [("detect", 16), ("classify", 1)])
def test_l1_penalty_is_one_of_an_image(task: str, images: int) -> None:
    """The penalty is scaled as Ultralytics' loss is: summed over a detector's batch and over the batches of a step."""
    model = nn.Sequential(nn.BatchNorm2d(2))
    model[0].weight.grad = torch.zeros(2)

    class Steps:
        def optimizer_step(self) -> None:
            """Step, in Ultralytics' place."""

    trainer = type("Trainer", (Phase, Steps), {"l1": 0.5})()
    trainer.args, trainer.model, trainer.accumulate = SimpleNamespace(task=task, batch=16), model, 3
    trainer.scaler = SimpleNamespace(get_scale=lambda: 4.0)
    trainer.optimizer_step()
    assert model[0].weight.grad.tolist() == [0.5 * images * 3 * 4.0] * 2  # type: ignore[union-attr]
