"""An interrupted training resumes after its last complete epoch, and only as the training that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.listeners import Remembers
from tests.helpers.trainings import QUICK, RESUMES, Recover, interrupted, never_better, update
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint
from yolo_slim.training.resume import is_finished
from yolo_slim.workspace.job import Job, Made, read_manifest


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The folder of the training's checkpoints."""
    return tmp_path / "recover" / "train" / "weights"


def test_resumed_epochs_draw_anew(train: Recover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed epoch has the images in another order than the first one; two trainings begin with the same."""
    from yolo_slim.training.trainer import SlimTrainer

    original, seen = SlimTrainer.preprocess_batch, list[list[str]]()

    def noted(self: Any, batch: Any) -> Any:
        seen[-1] += [Path(file).name for file in batch["im_file"]]
        return original(self, batch)

    monkeypatch.setattr(SlimTrainer, "preprocess_batch", noted)
    for folder in ("first", "second"):
        seen.append([])
        interrupted(train, folder=folder)
    seen.append([])
    train(folder="first")
    first, second, after = seen
    assert first == second
    assert sorted(after) == sorted(first[: len(after)])
    assert after != first[: len(after)]


def test_changed_settings_lose_nothing(train: Recover, tmp_path: Path) -> None:
    """An unfinished training of other settings is refused by name and kept; with the old ones it resumes."""
    folder = tmp_path / "recover"
    last = folder / "train" / "weights" / "last.pt"
    interrupted(train)
    kept = sha256(last)
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        train(epochs=3, overrides={**QUICK.overrides, "lr0": 0.0003})
    assert caught.value.culprits == ("epochs 2 -> 3", "overrides.lr0 not set -> 0.0003")
    assert sha256(last) == kept
    listener = Remembers()
    train(progress=listener)
    assert RESUMES in listener.said
    assert "training begins" not in listener.said
    assert (folder / "manifest.json").exists()
    again = train(epochs=1, progress=(listener := Remembers()))
    assert "recover: training begins, 1 epoch\n" in listener.said
    assert read_json(folder / "manifest.json")["settings"]["epochs"] == 1
    assert again.weights.exists()


def test_resumes_after_an_update(
    train: Recover, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update throws no epochs away: the training resumes, and the progress and the manifest name the update."""
    interrupted(train)
    kept = sha256(weights / "last.pt")
    changed = update(monkeypatch)
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        train(epochs=3)
    assert caught.value.culprits == ("epochs 2 -> 3", changed)
    assert sha256(weights / "last.pt") == kept
    listener = Remembers()
    train(progress=listener)
    assert f"recover: resumes although {changed}\n" in listener.said
    assert RESUMES in listener.said
    manifest = read_manifest(tmp_path / "recover")
    assert manifest is not None
    assert (manifest.facts["resumed"], manifest.facts["updates"]) == (True, [changed])
    assert manifest.packages["ultralytics"] == "99.0"
    train(progress=(listener := Remembers()))
    assert listener.said == "recover: up to date, skipped\n"


def test_missing_output_is_made_without_training(
    train: Recover, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that was deleted comes from best.pt again, also where the training was resumed after an update."""
    interrupted(train)
    update(monkeypatch)
    outputs = train()
    trained = sha256(weights / "best.pt")
    outputs.weights.unlink()
    listener = Remembers()
    train(progress=listener)
    assert listener.said == "recover: stale, made again: recovered.pt complete -> missing\n"
    assert outputs.weights.is_file()
    assert sha256(weights / "best.pt") == trained


def test_another_stages_manifest(train: Recover, tmp_path: Path, weights: Path) -> None:
    """What another stage has finished in the same folder doesn't make an unfinished training a finished one."""
    interrupted(train)
    kept = sha256(weights / "last.pt")
    other = Job(stage="export", folder=tmp_path / "recover", settings={}, inputs={}, revision=1, packages=())
    other.finish(Made(outputs=[]), seconds=0)
    with pytest.raises(SlimError, match="unfinished training with other settings"):
        train(epochs=3)
    assert sha256(weights / "last.pt") == kept


def test_timed_training_is_finished_by_ultralytics_alone() -> None:
    """Where the time decides, epochs beyond those asked for say nothing of the end."""
    assert is_finished(29, 30, {})
    assert not is_finished(28, 30, {})
    assert not is_finished(40, 30, {"time": 2})
    assert is_finished(-1, 30, {"time": 2})


def test_half_written_checkpoints(train: Recover, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-written checkpoint never replaces a complete one; an unreadable last.pt names the best epoch."""
    interrupted(train)
    complete = (weights / "last.pt").read_bytes()
    (weights / "last.pt").write_bytes(complete[: len(complete) // 2])
    with pytest.raises(SlimError, match=r"(?s)last\.pt can't be read.*best\.pt"):
        train()
    (weights / "last.pt").write_bytes(complete)
    (weights / ".best.pt.tmp").write_bytes(b"half")
    never_better(monkeypatch)
    train()
    assert checkpoint.load(weights / "best.pt").sha256 != sha256(weights / "last.pt")
    assert not list(weights.glob(".*.tmp"))


def test_moved_folder_resumes_where_it_lies(train: Recover, tmp_path: Path) -> None:
    """An interrupted training resumes in the folder that it was moved to; nothing is written where it began."""
    interrupted(train)
    (tmp_path / "recover").rename(tmp_path / "moved")
    listener = Remembers()
    outputs = train(progress=listener, folder="moved")
    assert RESUMES in listener.said
    assert outputs.weights.parent == tmp_path / "moved"
    assert len(outputs.results.read_text(encoding="utf-8").splitlines()) == 3
    assert not (tmp_path / "recover").exists()
