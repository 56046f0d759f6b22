"""Training arguments: what is passed on, what is refused, and what they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.cfg import get_cfg

from tests.helpers import tiny_data
from tests.helpers.trainings import QUICK, Recover, training_in
from yolo_slim import api, pipeline, preparation
from yolo_slim.config.run import RecoverConfig, RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.pruning.outputs import outputs_in
from yolo_slim.stages import control, prune, recover
from yolo_slim.stages.context import Context
from yolo_slim.training.arguments import check_overrides, require_device, require_plain_path, training_arguments
from yolo_slim.training.precision import has_bfloat16
from yolo_slim.training.settings import settings_of
from yolo_slim.training.trainer import trainer_of


def test_apostrophe_in_the_path(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A folder that Ultralytics wouldn't find again is refused before anything is made; other odd names are fine."""
    require_plain_path(tmp_path / 'it is "é" & [1]')
    config = RunConfig(model=str(trained), data=str(signs))
    with pytest.raises(SlimError, match="removes the apostrophe"):
        pipeline.run(config, project=tmp_path / "it's")
    assert not list(tmp_path.rglob("*.pt"))
    named = RunConfig(model="it's.pt", data="data.yaml")
    assert preparation.default_name(named) == "its-host-640-50"


def test_unknown_arguments_are_reported_together() -> None:
    """Unknown training arguments and ours are named at once."""
    with pytest.raises(SlimError) as caught:
        check_overrides({"lr00": 1, "epochs": 3})
    assert "Did you mean 'lr0'?" in str(caught.value)
    assert "epochs: set recover.epochs instead" in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    [
        {"pretrained": "other.pt"},
        {"save": False},
        {"cfg": "hyp.yaml"},
        {"split": "test"},
        {"single_cls": True},
        {"classes": [0]},
        {"nms": True},
    ],
)
def test_arguments_that_would_lose_the_network(argument: dict[str, Any]) -> None:
    """Other weights, a training without checkpoints, another split or classes, and arguments that nothing reads."""
    with pytest.raises(SlimError, match="can't be passed"):
        check_overrides(argument)


@pytest.mark.parametrize(
    "argument",
    [{"lr0": "high"}, {"mosaic": 5}, {"optimizer": "Foo"}, {"freeze": 1000}],
)
def test_values_that_ultralytics_refuses(argument: dict[str, Any], train: Recover) -> None:
    """A value of a wrong type, range or name is an error with a way out, not a traceback."""
    with pytest.raises(SlimError, match=r"Ultralytics (doesn't take|can't train with these arguments)"):
        train(overrides={**QUICK.overrides, **argument})


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that torch doesn't see is named before anything is trained; the CPU and an empty device are fine."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("", "cpu", "0", "cuda:0"):
        require_device(device)
    with pytest.raises(SlimError, match="asks for GPU 1, 2; this machine has 1"):
        require_device("0,1,2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SlimError, match="asks for GPU 0; this machine has none"):
        require_device("0")
    for device in ("cuda", "gpu", "auto", "xpu:0", "0,cpu", "mps"):
        with pytest.raises(SlimError, match=r"recover\.device"):
            require_device(device)


def test_every_argument_is_passed_through(tmp_path: Path) -> None:
    """What the user gives wins over our defaults."""
    config = RecoverConfig(epochs=20, distill=0.0, overrides={"lr0": 0.3, "mosaic": 0.0})
    arguments = training_arguments(training_in(tmp_path), config)
    assert arguments["lr0"] == 0.3
    assert arguments["mosaic"] == 0.0
    assert arguments["close_mosaic"] == 6
    assert "nms" not in arguments
    assert "distill_model" not in arguments


def test_bfloat16_where_the_gpu_has_it(cut: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a GPU needs no trial with a downloaded network; the device isn't part of what decides a training."""
    training = training_in(tmp_path, weights=cut, teacher=cut, data=signs)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has, amp in ((True, "bf16"), (False, True)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        given, cpu = (
            training_arguments(training, QUICK.model_copy(update={"device": device})) for device in ("", "cpu")
        )
        assert given["amp"] == amp
        assert cpu["amp"] == has_bfloat16()
    assert "device" not in settings_of(QUICK)


def test_best_epoch_is_that_of_the_exported_head(tmp_path: Path) -> None:
    """Ultralytics validates a training's one-to-one head only where the arguments say that no NMS follows."""
    arguments = training_arguments(training_in(tmp_path, end2end=True), RecoverConfig())
    assert arguments["nms"] is False
    get_cfg(overrides={"nms": arguments["nms"]})


def test_exported_head_chooses_the_epoch(
    untrained: Callable[[str], Path], signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training for the one-to-one head is validated by it, whoever starts it; another model has no such head."""
    weights = untrained("yolo26n")
    inputs = recover.RecoverInputs(weights=weights, teacher=weights)
    one, context = QUICK.model_copy(update={"epochs": 1}), Context.load(signs, imgsz=64, end2end=True)
    recover.run(inputs, one, tmp_path / "out", context)
    last = torch.load(tmp_path / "out" / "train" / "weights" / "last.pt", weights_only=False)
    assert last["train_args"]["nms"] is False
    assert last["model"].model[-1].end2end
    other = recover.RecoverInputs(weights=untrained("yolov8n"), teacher=untrained("yolov8n"))
    with pytest.raises(SlimError, match="no one-to-one head"):
        recover.run(other, one, tmp_path / "other", context)


def test_every_caller_asks_for_the_exported_head(
    untrained: Callable[[str], Path], signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage alone, a comparison's training and the run all say which head will be exported."""
    weights, asked = untrained("yolo26n"), []

    def noted(
        _inputs: recover.RecoverInputs, _config: RecoverConfig, _folder: Path, context: Context, **_: Any
    ) -> None:
        asked.append(context.end2end)
        raise KeyboardInterrupt

    monkeypatch.setattr(recover, "run", noted)
    monkeypatch.setattr(prune, "run", lambda *_, **__: outputs_in(tmp_path))
    # A network that was never trained finds nothing.
    monkeypatch.setattr(control, "run", lambda *_, **__: tmp_path / "control.json")
    config = api.make_config(weights, signs, imgsz=64, settings={"export.end2end": True})
    this = preparation.prepared(config, tmp_path / "run")
    for start in (
        lambda: api.recover(weights, weights, signs, tmp_path / "r", imgsz=64, settings={"export.end2end": True}),
        lambda: pipeline.trained_and_built(this, weights, "slim", seed=0),
        lambda: pipeline.run(config, project=tmp_path, name="chain"),
    ):
        with pytest.raises(KeyboardInterrupt):
            start()
    assert asked == [True, True, True]


@pytest.mark.parametrize("asked", [0.0, 0.25])
def test_dropout_of_a_classifier(asked: float, tmp_path: Path) -> None:
    """What is asked for is set, as Ultralytics does; without, the network's own stays."""
    data, model = tiny_data.make(tmp_path / "data", "classify"), tiny_data.network("yolo11n", "classify")
    model.model[-1].drop.p = 0.1
    weights = tiny_data.save(model, tmp_path / "model.pt")
    training = training_in(tmp_path / "out", weights=weights, teacher=weights, data=data)
    config = QUICK.model_copy(update={"overrides": {**QUICK.overrides, "dropout": asked}})
    trainer = trainer_of("classify", "answers")(overrides=training_arguments(training, config))
    assert trainer.get_model(weights=model).model[-1].drop.p == (asked or 0.1)


def test_frozen_layers_stay(train: Recover, cut: Path) -> None:
    """Ultralytics' freeze keeps a pruned network's first layers while it is distilled, and no others."""
    outputs = train(epochs=1, overrides={**QUICK.overrides, "freeze": 3, "lr0": 0.01})
    before, after = checkpoint.load(cut).model.state_dict(), checkpoint.load(outputs.weights).model.state_dict()
    weights = [key for key in before if key.endswith("conv.weight")]
    same = {key for key in weights if torch.equal(before[key].half(), after[key].half())}
    assert same == {key for key in weights if int(key.split(".")[1]) < 3} | {"model.22.dfl.conv.weight"}
    statistics = "model.1.bn.running_mean"
    assert torch.equal(before[statistics].half(), after[statistics].half())
