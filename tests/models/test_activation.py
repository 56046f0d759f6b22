"""The exchange of activations in a network: where it happens, where not, and that Ultralytics agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers import tiny_data
from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import ACTIVATIONS, exchange, require_exchangeable


def activations(model: nn.Module) -> list[str]:
    """Name the activation of every block, in order."""
    return [
        type(module.act).__name__ for module in model.modules() if isinstance(getattr(module, "act", None), nn.Module)
    ]


def test_every_value_has_a_module() -> None:
    """Each value of the setting but none is exchanged by one of torch's modules."""
    values = RecoverConfig.model_fields["activation"].annotation.__args__  # type: ignore[union-attr]
    assert set(values) == {"none", *ACTIVATIONS}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("family", ["yolov8n", "yolov10n", "yolo11n", "yolo12n", "yolo26n"])
def test_ultralytics_builds_the_same(family: str, name: str) -> None:
    """Every SiLU is exchanged and nothing else, and Ultralytics builds such a network from the yaml in it."""
    from ultralytics.nn.tasks import DetectionModel

    model = tiny_data.network(family, "detect")
    before = activations(model)
    count = exchange(model, name)
    wanted = ACTIVATIONS[name].__name__
    assert activations(model) == [wanted if kind == "SiLU" else kind for kind in before]
    assert count == before.count("SiLU") > 20
    built = DetectionModel(model.yaml, verbose=False)
    # yolov10's large depth-wise block names SiLU itself.
    expected = [kind.replace("SiLU", wanted) for kind in activations(built)]
    assert expected == activations(model)
    assert ("SiLU" in activations(built)) == (family == "yolov10n")
    image = torch.zeros(1, 3, 64, 64)
    assert torch.isfinite(model(image)[0]).all()


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_other_heads(task: str) -> None:
    """The heads of other tasks are exchanged too; what only a pose loss computes keeps its SiLU."""
    model = tiny_data.network("yolo26n", task)
    inside = [module for name, module in model.named_modules() if "flow" in name and isinstance(module, nn.SiLU)]
    exchange(model, "relu")
    assert "SiLU" not in activations(model)
    left = [module for module in model.modules() if isinstance(module, nn.SiLU)]
    assert left == inside
    assert bool(left) == (task == "pose")


def test_a_network_without_silu(untrained: Callable[[str], Path]) -> None:
    """A network of another activation is refused by name; one that has the asked activation is left as it is."""
    model: Any = checkpoint.load(untrained("yolov8n")).model
    require_exchangeable(model, "relu")
    for module in model.modules():
        if isinstance(getattr(module, "act", None), nn.SiLU):
            module.act = nn.LeakyReLU()
    require_exchangeable(model, "none")
    with pytest.raises(SlimError, match="hardswish exchanges SiLU, but the network has no SiLU") as caught:
        require_exchangeable(model, "hardswish")
    assert caught.value.culprits == ("its activations: LeakyReLU",)
    relu: Any = checkpoint.load(untrained("yolov8n")).model
    exchange(relu, "relu")
    require_exchangeable(relu, "relu")
    assert exchange(relu, "relu") == 0
