"""A training that can't continue says what to change, and keeps the best epoch so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.listeners import Remembers
from tests.helpers.trainings import RESUMES, Recover, fill, in_epoch, refuse
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.models import checkpoint
from yolo_slim.training.guards import all_finite, batch_that_fits, is_out_of_memory, out_of_memory


def test_nan_keeps_the_last_good_epoch(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that isn't finite stops the training; the weights of best.pt are finite, and the same command resumes."""
    weights = tmp_path / "recover" / "train" / "weights"
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, fill(float("nan")))
        with pytest.raises(SlimError, match=r"loss became NaN or infinite in epoch 2") as caught:
            train()
    assert str(weights / "best.pt") in str(caught.value)
    assert all(word in caught.value.remedy for word in ("lr0", "distill", "amp"))
    good = checkpoint.load(weights / "best.pt").model
    assert all_finite(good.state_dict().values())
    listener = Remembers()
    outputs = train(progress=listener)
    assert RESUMES in listener.said
    assert all_finite(checkpoint.load(outputs.weights).model.state_dict().values())


def test_nan_by_the_last_step_of_an_epoch(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that aren't finite, though every loss was, aren't saved: training resumes from the last.pt before."""
    from yolo_slim.training.trainer import SlimTrainer

    original = SlimTrainer.validate

    def validate(self: Any) -> Any:
        if self.epoch == 1:
            for network in (self.model, self.ema.ema):
                next(network.parameters()).data.fill_(float("nan"))
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(SlimTrainer, "validate", validate)
        with pytest.raises(SlimError, match="network became NaN or infinite in epoch 2"):
            train()
    last = torch.load(tmp_path / "recover" / "train" / "weights" / "last.pt", weights_only=False)
    kept = next(last["ema"].parameters())
    assert last["epoch"] == 0
    assert torch.isfinite(kept).all()
    assert kept.abs().sum() > 0
    listener = Remembers()
    train(progress=listener)
    assert RESUMES in listener.said


def test_nan_in_the_first_epoch(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no epoch is complete, the error names no weights that were kept."""
    in_epoch(monkeypatch, 0, fill(float("inf")))
    with pytest.raises(SlimError, match="No epoch was finished before"):
        train()


def test_out_of_memory_names_a_batch(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that doesn't fit is never halved silently, whichever error says so."""
    gpu, cpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError()
    for error in (gpu, cpu):
        with monkeypatch.context() as patched:
            in_epoch(patched, 0, refuse(error))
            with pytest.raises(SlimError, match="with 8 images of 64 px") as caught:
                train()
        assert "recover.batch to 4" in caught.value.remedy
    in_epoch(monkeypatch, 0, refuse(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        train()


def test_lost_worker_names_what_needs_less_memory(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loading process that died, mostly for lack of shared memory, ends no training with a traceback."""
    for text in (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory.",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
        "unable to mmap 1024 bytes from file </torch_7>: Cannot allocate memory (12)",
    ):
        with monkeypatch.context() as patched:
            in_epoch(patched, 0, refuse(RuntimeError(text)))
            with pytest.raises(MachineError, match="process that loads images") as caught:
                train()
        assert "--train workers=0" in caught.value.remedy


def test_memory_errors_and_batches() -> None:
    """Errors of too little memory are recognised, and a batch is halved until it fits what is known."""
    allocator = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
    assert is_out_of_memory(allocator)
    assert is_out_of_memory(RuntimeError("[enforce fail] posix_memalign: Cannot allocate memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert batch_that_fits(16) == 8
    assert batch_that_fits(16, used=40e9, available=8e9) == 2
    assert batch_that_fits(3) == 1
    assert "smaller --imgsz" in str(out_of_memory(1, 640))
