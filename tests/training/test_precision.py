"""Training on a CPU: channels last changes nothing, bfloat16 rounds convolutions alone, fusing keeps the answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from tests.helpers.trainings import training_in
from yolo_slim.config.run import RecoverConfig
from yolo_slim.files import read_json
from yolo_slim.models import checkpoint
from yolo_slim.stages import recover
from yolo_slim.stages.context import Context
from yolo_slim.training import precision
from yolo_slim.training.arguments import training_arguments
from yolo_slim.training.distill import heads
from yolo_slim.training.precision import Float32Criterion, as_float32, fused

OFF = {"workers": 0, "fraction": 0.5, "cache": False}


@pytest.mark.parametrize("family", ["yolov8n", "yolo11n", "yolo26n"])
def test_fused_teacher_answers_the_same(family: str, untrained: Callable[[str], Path]) -> None:
    """Without batch norms every head's answers are the network's own, and the network keeps its batch norms."""
    model = checkpoint.load(untrained(family)).model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    count = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    images = torch.rand(2, 3, 64, 64)
    quick = fused(model)
    with torch.no_grad():
        wanted, found = heads(model(images)), heads(quick(images))
    assert found.keys() == wanted.keys()
    for name, raw in wanted.items():
        for key in ("boxes", "scores"):
            torch.testing.assert_close(found[name][key], raw[key], atol=1e-4, rtol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == count > 0
    assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.modules()) < count / 10


@pytest.mark.parametrize("family", ["yolov8n", "yolo11n", "yolo26n"])
def test_channels_last_is_the_same_training(family: str, untrained: Callable[[str], Path]) -> None:
    """Loss and gradients of a step don't depend on the order in memory."""
    images = torch.rand(2, 3, 64, 64)
    labels = {"batch_idx": torch.tensor([0.0, 1.0]), "cls": torch.zeros(2, 1), "bboxes": torch.full((2, 4), 0.4)}

    def step(memory_format: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
        model = checkpoint.load(untrained(family)).model.float().train().requires_grad_(True)
        model.args = recover_args()
        model = model.to(memory_format=memory_format)
        loss = model.init_criterion()(model(images), labels)[0].sum()
        loss.backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss.detach(), torch.cat([g.contiguous() for g in gradients])

    first, second = step(torch.contiguous_format), step(torch.channels_last)
    torch.testing.assert_close(first[0], second[0], rtol=1e-4, atol=1e-4)
    assert torch.nn.functional.cosine_similarity(first[1], second[1], dim=0) > 0.9999


def recover_args() -> Any:
    """Return Ultralytics' default arguments, which a criterion reads its gains from."""
    from ultralytics.cfg import get_cfg

    return get_cfg()


def test_criterion_computes_in_float32() -> None:
    """What a network answers in bfloat16 is judged in float32, outside of mixed precision; integers stay."""
    seen: list[Any] = []

    def criterion(preds: Any, batch: dict[str, Any]) -> torch.Tensor:
        seen.append((preds, batch, torch.ones(2, 2) @ torch.ones(2, 2)))
        return torch.zeros(1)

    preds = {"one2many": {"boxes": torch.ones(2, dtype=torch.bfloat16)}, "feats": [torch.ones(1, dtype=torch.half)]}
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        Float32Criterion(criterion)(preds, {"img": 1})
    found, batch, product = seen[0]
    assert found["one2many"]["boxes"].dtype == found["feats"][0].dtype == product.dtype == torch.float32
    assert batch == {"img": 1}
    assert as_float32((torch.ones(1, dtype=torch.int64), "a"))[0].dtype == torch.int64
    # A network is copied with its criterion.
    assert copy.deepcopy(Float32Criterion(criterion)).criterion is criterion


@pytest.mark.parametrize("amp", [True, "bf16", False])
def test_mixed_precision_training(amp: Any, trained: Path, signs: Path, tmp_path: Path) -> None:
    """Where it is asked for, convolutions see bfloat16; weights, statistics and the file on the disk never do."""
    seen: set[torch.dtype] = set()

    def watched(layer: nn.Module, _: Any, answer: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            seen.update([answer.dtype] if layer.training else [])
            assert layer.weight.dtype == torch.float32

    inputs = recover.RecoverInputs(weights=trained, teacher=trained)
    config = RecoverConfig(epochs=1, batch=8, device="cpu", overrides={**OFF, "amp": amp})
    hook = register_module_forward_hook(watched)
    try:
        weights = recover.run(inputs, config, tmp_path / "recover", Context.load(signs, imgsz=64)).weights
    finally:
        hook.remove()
    assert seen == {torch.bfloat16 if amp else torch.float32}
    assert read_json(tmp_path / "recover" / "manifest.json")["facts"]["mixed_precision"] == bool(amp)
    for value in checkpoint.load(weights).model.state_dict().values():
        assert value.dtype in (torch.float32, torch.int64)
        assert value.is_contiguous()


@pytest.mark.parametrize(
    ("able", "settings", "mixed"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"overrides": {"amp": True}}, True),
        (True, {"overrides": {"amp": False}}, False),
        (True, {"overrides": {"quantize": 8, "amp": True}}, False),
        (True, {"distill_on": "features"}, False),
    ],
)
def test_only_where_it_pays(
    able: bool, settings: dict[str, Any], mixed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the default where the processor multiplies bfloat16, and never on where another part computes the loss."""
    features = {"avx512_bf16": able, "avx2": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.has_bfloat16() is able
    assert training_arguments(training_in(tmp_path), RecoverConfig(**settings))["amp"] is mixed
