"""Recovery with another activation: what is exchanged, what is not, and what that makes of earlier trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.listeners import Remembers
from tests.helpers.trainings import RESUMES, Recover, interrupted
from yolo_slim.config.run import RecoverConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import conv_widths
from yolo_slim.progress import Silent
from yolo_slim.training.arguments import Training
from yolo_slim.training.exchange import exchanged
from yolo_slim.training.settings import settings_inside_prune, settings_of


def kinds(path: Path) -> set[str]:
    """Name the activations of a file's blocks."""
    model = checkpoint.load(path).model
    found = {
        type(module.act).__name__ for module in model.modules() if isinstance(getattr(module, "act", None), nn.Module)
    }
    return found - {"Identity"}


def test_recovered_network(train: Recover, cut: Path, unpruned: Path) -> None:
    """The recovered network has the activation at the cut's widths; the cut and the teacher keep SiLU."""
    listener = Remembers()
    found = train(activation="relu", progress=listener)
    assert kinds(found.weights) == {"ReLU"}
    assert kinds(cut) == kinds(unpruned) == {"SiLU"}
    recovered, pruned = checkpoint.load(found.weights).model, checkpoint.load(cut).model
    assert conv_widths(recovered) == conv_widths(pruned)
    assert recovered.yaml["activation"] == "torch.nn.ReLU()"  # type: ignore[index]
    assert "recover: relu in place of SiLU in 57 blocks" in listener.said


def test_resumed_training(train: Recover) -> None:
    """An interrupted training resumes with its activation, and only with it."""
    interrupted(train, activation="hardswish")
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        train()
    assert caught.value.culprits == ("activation hardswish -> not set",)
    listener = Remembers()
    found = train(activation="hardswish", progress=listener)
    assert RESUMES in listener.said
    assert "in place of SiLU" not in listener.said
    assert kinds(found.weights) == {"Hardswish"}


def test_earlier_trainings_stay_up_to_date() -> None:
    """Without an exchange the setting identifies nothing; trainings inside the prune stage never know it."""
    assert "activation" not in settings_of(RecoverConfig())
    assert settings_of(RecoverConfig(activation="relu"))["activation"] == "relu"
    assert settings_inside_prune(RecoverConfig(activation="relu")) == settings_inside_prune(RecoverConfig())


def test_statistics_are_new(cut: Path, signs: Path, unpruned: Path, tmp_path: Path) -> None:
    """Layers behind the first get other statistics; the first one, which reads images, keeps its mean nearly."""
    training = Training(
        weights=cut, teacher=unpruned, data=signs, folder=tmp_path, imgsz=64, seed=0
    )  # fmt: skip
    pruned = checkpoint.load(cut)
    start = exchanged(training, pruned, "relu", load_dataset(signs), Silent())
    before, after = (dict(checkpoint.load(path).model.named_modules()) for path in (cut, start.weights))
    assert start.weights.parent == tmp_path
    moved = {
        name: float((module.running_mean - after[name].running_mean).abs().mean() / module.running_var.sqrt().mean())
        for name, module in before.items()
        if isinstance(module, nn.BatchNorm2d) and isinstance(after[name].running_mean, torch.Tensor)
    }
    assert moved["model.0.bn"] < 0.2
    assert sum(value > 0.2 for value in moved.values()) > len(moved) / 2


def test_once_is_enough(train: Recover, signs: Path, unpruned: Path, tmp_path: Path) -> None:
    """A network that has the activation already is trained as it is, without another file."""
    first = train(activation="relu").weights
    training = Training(
        weights=first, teacher=unpruned, data=signs, folder=tmp_path, imgsz=64, seed=0
    )  # fmt: skip
    listener = Remembers()
    again = exchanged(training, checkpoint.load(first), "relu", load_dataset(signs), listener)
    assert again == training
    assert listener.said == "recover: the network has relu already\n"
