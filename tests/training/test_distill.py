"""Distillation: nothing to learn from oneself, something from another; both heads of yolo26; names must match."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ultralytics.cfg import get_cfg

from tests.helpers import tiny_data
from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.stages import recover
from yolo_slim.stages.context import Context
from yolo_slim.training.distill import ClassDistillationLoss, box_loss, class_loss, distilled, heads
from yolo_slim.training.trainer import trainer_of


@pytest.mark.parametrize(("family", "count"), [("yolov8n", 1), ("yolo11n", 1), ("yolo26n", 2)])
def test_zero_for_the_teacher_itself(family: str, count: int, untrained: Callable[[str], Path]) -> None:
    """The distance of a network to itself is 0, to a changed one it isn't, and its gradient lowers it."""
    teacher = checkpoint.load(untrained(family)).model
    reg_max = int(teacher.model[-1].reg_max)
    with torch.no_grad():
        outputs = heads(teacher(torch.rand(1, 3, 64, 64)))
    assert len(outputs) == count
    for raw in outputs.values():
        assert class_loss(raw, raw).item() == pytest.approx(0, abs=1e-5)
        assert box_loss(raw, raw, reg_max).item() == pytest.approx(0, abs=1e-5)
        moved = {
            key: (value + torch.randn_like(value)).requires_grad_() for key, value in raw.items() if key != "feats"
        }
        before = class_loss(moved, raw) + box_loss(moved, raw, reg_max)
        before.backward()
        step = {key: value - 1e-3 * value.grad / value.grad.norm() for key, value in moved.items()}
        after = class_loss(step, raw) + box_loss(step, raw, reg_max)
        assert before.item() > after.item() > 0


def test_distance_to_the_teacher_is_a_term_of_the_loss() -> None:
    """Beside a detector's own losses stands the distance to the teacher, by its weight; 0 for the teacher itself."""
    teacher = tiny_data.network("yolov8n", "detect")
    teacher.args = get_cfg()
    other = copy.deepcopy(teacher)
    for branch in other.model[-1].cv3:
        branch[-1].weight.data.add_(0.1)
    batch = {
        "img": torch.rand(2, 3, 64, 64),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.4, 0.3, 0.3]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }

    def terms(student: torch.nn.Module, weight: float) -> list[float]:
        student.train()
        return distilled(student.init_criterion(), teacher, weight)(student(batch["img"]), batch)[0].tolist()

    own = other.train().init_criterion()(other(batch["img"]), batch)[0].tolist()
    once, thrice = terms(other, 1.0), terms(other, 3.0)
    assert once[:-1] == pytest.approx(own, rel=1e-4)
    assert once[-1] > 1e-3
    assert thrice[-1] == pytest.approx(3 * once[-1], rel=1e-4)


def test_classifier_distillation_is_zero_for_the_teacher_itself() -> None:
    """A student that answers as its teacher has no distance, another one has; the own loss stays in."""
    teacher = tiny_data.network("yolov8n", "classify")
    other = copy.deepcopy(teacher)
    other.model[-1].linear.weight.data.mul_(-3)
    batch = {"img": torch.rand(4, 3, 64, 64), "cls": torch.tensor([0, 1, 2, 0])}
    loss = distilled(teacher.init_criterion(), teacher, 1.0)
    assert isinstance(loss, ClassDistillationLoss)
    own = [float(network.init_criterion()(network(batch["img"]), batch)[0]) for network in (teacher, other)]
    with_teacher = [float(loss(network(batch["img"]), batch)[0]) for network in (teacher, other)]
    assert with_teacher[0] == pytest.approx(own[0], abs=1e-5)
    assert with_teacher[1] > own[1] + 1e-4


def test_features_of_ultralytics(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Ultralytics' own distillation works on the same terms: its loss is there, the result is a plain checkpoint."""
    config = RecoverConfig(epochs=1, distill=6.0, distill_on="features", device="cpu", overrides={"workers": 0})
    inputs = recover.RecoverInputs(weights=trained, teacher=trained)
    outputs = recover.run(inputs, config, tmp_path / "recover", Context.load(signs, imgsz=64))
    assert "train/dis_loss" in outputs.results.read_text(encoding="utf-8").splitlines()[0]
    assert type(checkpoint.load(outputs.weights).model).__name__ == "DetectionModel"


def test_classifiers_have_no_features_to_compare() -> None:
    """A classifier has no neck, and says so."""
    with pytest.raises(SlimError, match="no neck"):
        trainer_of("classify", "features")
