"""Which networks can teach, and what a teacher changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.listeners import Remembers
from tests.helpers.trainings import Recover
from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.training.arguments import check_teacher
from yolo_slim.training.guards import require_teacher
from yolo_slim.training.settings import settings_of, teacher_of


@pytest.mark.parametrize(
    ("teacher", "difference"),
    [
        ("yolo26n", "box bins (reg_max): 1 in the teacher, 16 here"),
        ("yolo26n", "one-to-one head: True in the teacher, False here"),
        ("yolov8n-p2", "strides of the levels: [4, 8, 16, 32] in the teacher, [8, 16, 32] here"),
    ],
)
def test_teachers_that_cannot_teach(
    teacher: str, difference: str, train: Recover, untrained: Callable[[str], Path], tmp_path: Path
) -> None:
    """Another head is refused by name before training."""
    with pytest.raises(SlimError, match="can't teach") as caught:
        train(teacher=untrained(teacher))
    assert difference in caught.value.culprits
    assert not (tmp_path / "recover").exists()


def test_teacher_of_other_classes(untrained: Callable[[str], Path]) -> None:
    """Other names are refused even where their number is the same; the model itself is not."""
    student, other = (checkpoint.load(untrained("yolov8n")).model for _ in range(2))
    require_teacher(student, other, Path("t.pt"))
    other.names = {i: f"{name}!" for i, name in other.names.items()}
    with pytest.raises(SlimError, match="classes: "):
        require_teacher(student, other, Path("t.pt"))


def test_larger_teacher(train: Recover, untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """A wider network teaches; its content counts, not its path, and another teacher means another training."""
    larger = untrained("yolov8n")
    once = train(teacher=larger, epochs=1)
    stamp = once.weights.stat().st_mtime_ns
    moved = shutil.copyfile(larger, tmp_path / "moved.pt")
    listener = Remembers()
    train(teacher=Path(moved), epochs=1, progress=listener)
    assert listener.said == "recover: up to date, skipped\n"
    train(epochs=1)
    assert once.weights.stat().st_mtime_ns != stamp


def test_teacher_changes_what_is_learnt(train: Recover) -> None:
    """A teacher's answers move the weights; without them, and with weight 0, the same weights come out twice."""
    taught, alone, again = (
        checkpoint.load(train(epochs=1, distill=weight, folder=name).weights).model.state_dict()
        for name, weight in (("taught", 3.0), ("alone", 0.0), ("again", 0.0))
    )
    key = "model.22.cv3.0.2.weight"
    assert torch.equal(alone[key], again[key])
    assert not torch.equal(taught[key], alone[key])


def test_settings_name_the_teacher(untrained: Callable[[str], Path]) -> None:
    """The teacher of the settings replaces the model, and one that can't teach is refused with the other inputs."""
    student = checkpoint.load(untrained("yolov8n"))
    named = RecoverConfig(teacher=str(untrained("yolov8s")))
    assert teacher_of(named, student.path) == untrained("yolov8s")
    assert teacher_of(RecoverConfig(), student.path) == student.path
    assert "teacher" not in settings_of(named)
    check_teacher(named, student)
    wrong = RecoverConfig(teacher=str(untrained("yolo26n")))
    with pytest.raises(SlimError, match="can't teach"):
        check_teacher(wrong, student)
    check_teacher(wrong.model_copy(update={"distill": 0.0}), student)
