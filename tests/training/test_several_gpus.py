"""A training on several GPUs, as two processes of the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.constants import ROOT
from tests.helpers.listeners import Remembers
from tests.helpers.trainings import QUICK, RESUMES, Recover, training_in
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import conv_widths
from yolo_slim.training.arguments import training_arguments
from yolo_slim.training.guards import all_finite


def test_several_gpus_need_cloudpickle(train: Recover, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package that sends the trainer to them is asked for before anything is trained."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SlimError, match="needs the package cloudpickle"):
        train(device="0,1")
    assert not (tmp_path / "recover").exists()


def test_trainer_travels_to_other_processes(
    cut: Path, unpruned: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that Ultralytics starts on every GPU finds our trainer and its settings in a fresh process."""
    pytest.importorskip("cloudpickle")
    from ultralytics.utils import dist

    from yolo_slim.training.trainer import SlimTrainer

    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    training = training_in(tmp_path / "out", weights=cut, teacher=unpruned, data=signs)
    script = Path(dist.generate_ddp_file(SlimTrainer(overrides=training_arguments(training, QUICK))))
    state = script.with_suffix(".pt")
    assert "trainer.train()" in script.read_text()
    code = (
        "import sys; from ultralytics.utils.patches import torch_load\n"
        "state = torch_load(sys.argv[1], map_location='cpu')\n"
        "print(state['trainer'].__module__, state['trainer'].__name__, state['args']['dis'], state['model'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(state)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["yolo_slim.training.trainer", "SlimTrainer", "3.0", str(cut)]


def use_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as on two GPUs, or skip where torch or the sender of the trainer is missing."""
    pytest.importorskip("cloudpickle")
    if not torch.distributed.is_gloo_available():
        pytest.skip("needs a torch with gloo")
    from tests.helpers.two_processes import TwoProcesses

    monkeypatch.setattr("yolo_slim.training.trainer.TRAINERS", {"detect": TwoProcesses})
    monkeypatch.chdir(ROOT)


def test_two_processes(train: Recover, cut: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that share a training see different images, end with the same weights and keep the pruned widths."""
    use_two_processes(monkeypatch)
    outputs = train()
    folder = tmp_path / "recover" / "train"
    first, second = (torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    there = len(list((signs.parent / "images" / "train").iterdir()))
    assert not set(first["seen"]) & set(second["seen"])
    assert len(set(first["seen"]) | set(second["seen"])) == QUICK.epochs * there // 2
    assert all(torch.equal(a, b) for a, b in zip(first["weights"], second["weights"], strict=True))
    recovered, before = (checkpoint.load(path).model for path in (outputs.weights, cut))
    assert conv_widths(recovered) == conv_widths(before)
    assert not torch.equal(next(recovered.parameters()), next(before.parameters()))


def test_nan_in_one_of_two_processes(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends both, best.pt of the epoch before stays, and the same command resumes from there."""
    use_two_processes(monkeypatch)
    with monkeypatch.context() as spoiled:
        spoiled.setenv("TEST_SPOILED_RANK", "1")
        with pytest.raises(SlimError, match="on several GPUs ended with status"):
            train()
    best = tmp_path / "recover" / "train" / "weights" / "best.pt"
    assert all_finite(checkpoint.load(best).model.state_dict().values())
    listener = Remembers()
    train(progress=listener)
    assert RESUMES in listener.said
