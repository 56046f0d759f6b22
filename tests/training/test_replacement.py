"""A finished recovery is never lost to a training that fails, nor to an update."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.constants import ROOT
from tests.helpers.listeners import Remembers
from tests.helpers.trainings import QUICK, Recover, interrupted, update
from yolo_slim import api, pipeline
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.stages import prune
from yolo_slim.training.replacement import contains_training, require_no_unfinished
from yolo_slim.workspace.job import Job, Made

KEPT = {"manifest.json", "job.json", "recovered.pt", "best.pt", "last.pt"}
"""Files that make up a finished recovery."""
FRESH_PROCESS = """
import sys
from pathlib import Path

from tests.helpers.listeners import Remembers
from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.stages import recover
from yolo_slim.stages.context import Context

weights, teacher, data, folder = map(Path, sys.argv[1:5])
listener = Remembers()
inputs = recover.RecoverInputs(weights=weights, teacher=teacher)
config = RecoverConfig.model_validate_json(sys.argv[5])
try:
    recover.run(inputs, config, folder, Context.load(data, imgsz=64, progress=listener), replace=False)
except SlimError:
    listener.say("refused")
print(listener.said.strip(), "torch" in sys.modules)
"""
"""Runs the stage once more; its arguments are the files, the folder and the settings as JSON."""


def finished_files(folder: Path) -> dict[Path, str]:
    """Map the files of a finished recovery to their digests."""
    found = {path: sha256(path) for path in folder.rglob("*") if path.is_file() and path.name in KEPT}
    assert {path.name for path in found} == KEPT
    return found


def test_failed_replacement_gives_the_finished_recovery_back(train: Recover, tmp_path: Path) -> None:
    """A new recovery that fails before its first complete epoch costs nothing; one with a complete epoch stays."""
    folder = tmp_path / "recover"
    train(epochs=1)
    kept = finished_files(folder)
    with pytest.raises(SlimError, match="Ultralytics can't train with these arguments"):
        train(epochs=1, overrides={**QUICK.overrides, "optimizer": "AdamWW"})
    assert {path: sha256(path) for path in kept} == kept
    assert not (folder / "before").exists()
    listener = Remembers()
    train(epochs=1, progress=listener)
    assert listener.said == "recover: up to date, skipped\n"
    interrupted(train)
    assert sha256(folder / "before" / "manifest.json") == kept[folder / "manifest.json"]
    with pytest.raises(SlimError, match="unfinished training with other settings"):
        train(epochs=1)
    shutil.rmtree(folder / "train")
    train(epochs=1, progress=listener)
    assert {path: sha256(path) for path in kept} == kept
    train()
    assert read_json(folder / "manifest.json")["settings"]["epochs"] == 2
    assert not (folder / "before").exists()


def test_an_update_keeps_it(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update a finished recovery is kept and the update named; other settings still replace it."""
    folder = tmp_path / "recover"
    train(epochs=1)
    kept = finished_files(folder)
    changed = update(monkeypatch)
    listener = Remembers()
    train(epochs=1, progress=listener)
    assert listener.said == f"recover: kept although {changed}; --retrain trains again\n"
    assert finished_files(folder) == kept
    train(progress=listener)
    assert f"recover: stale, made again: epochs 1 -> 2, {changed}\n" in listener.said
    assert read_json(folder / "manifest.json")["packages"]["ultralytics"] == "99.0"


def test_retrain_replaces_it_after_an_update(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--retrain`` trains again after an update, but not without one; if that fails, the old recovery comes back."""
    folder = tmp_path / "recover"
    train(epochs=1)
    kept = finished_files(folder)
    listener = Remembers()
    train(epochs=1, retrain=True, progress=listener)
    assert listener.said == "recover: up to date, skipped\n"
    changed = update(monkeypatch)
    interrupted(train, after=0, epochs=1, retrain=True)
    assert finished_files(folder) == kept
    assert not (folder / "before").exists()
    train(epochs=1, retrain=True, progress=listener)
    assert f"recover: stale, made again: {changed}\n" in listener.said
    manifest = read_json(folder / "manifest.json")
    assert manifest["packages"]["ultralytics"] == "99.0"
    assert (manifest["facts"]["resumed"], manifest["facts"]["updates"]) == (False, [])
    assert not (folder / "before").exists()


def test_folder_that_was_not_named(train: Recover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There neither other settings replace a finished recovery nor ``--retrain`` an edited one, but an unedited one."""
    folder, refusal = tmp_path / "recover", "finished recovery with other settings or weights"
    outputs = train(epochs=1, replace=False)
    kept = finished_files(folder)
    with pytest.raises(SlimError, match=refusal) as caught:
        train(replace=False)
    assert caught.value.culprits == ("epochs 1 -> 2",)
    changed = update(monkeypatch)
    with pytest.raises(SlimError, match=refusal) as caught:
        train(replace=False, retrain=True)
    assert caught.value.culprits == ("epochs 1 -> 2", changed)
    content = outputs.weights.read_bytes()
    outputs.weights.write_bytes(content + b"edited")
    with pytest.raises(SlimError, match=refusal):
        train(epochs=1, replace=False, retrain=True)
    outputs.weights.write_bytes(content)
    assert finished_files(folder) == kept
    train(epochs=1, replace=False, retrain=True)
    assert read_json(folder / "manifest.json")["packages"]["ultralytics"] == "99.0"


def test_where_a_training_is(tmp_path: Path) -> None:
    """A finished training, one that was moved aside, and complete epochs all count; an empty folder doesn't."""
    assert not contains_training(tmp_path)
    for number, name in enumerate(("manifest.json", "before/manifest.json", "train/weights/last.pt")):
        path = tmp_path / str(number) / name
        path.parent.mkdir(parents=True)
        path.touch()
        assert contains_training(tmp_path / str(number))


def test_run_keeps_the_pruning_of_a_training(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run and the prune stage alone know of a training, finished or interrupted; elsewhere there is none."""
    asked: list[bool] = []

    def noted(*_: Any, recovery: Path | None) -> None:
        asked.append(recovery is not None and contains_training(recovery))
        raise KeyboardInterrupt

    monkeypatch.setattr(prune, "run", noted)
    config = api.make_config(trained, signs, imgsz=128)

    def ask_all() -> list[bool]:
        asked.clear()
        for start in (
            lambda: pipeline.run(config, project=tmp_path, name="run"),
            lambda: api.prune(trained, signs, tmp_path / "run" / "prune", imgsz=128),
            lambda: api.prune(trained, signs, tmp_path / "prune", imgsz=128),
        ):
            with pytest.raises(KeyboardInterrupt):
                start()
        return asked

    assert ask_all() == [False, False, False]
    for folder in (tmp_path, tmp_path / "run"):
        last = folder / "recover" / "train" / "weights" / "last.pt"
        last.parent.mkdir(parents=True)
        last.touch()
    assert ask_all() == [True, True, False]


def test_finished_one_is_recognised_without_torch(
    train: Recover, cut: Path, unpruned: Path, signs: Path, tmp_path: Path
) -> None:
    """A fresh process skips a finished recovery by hashes and manifests; other settings load torch."""
    train(epochs=1)
    files = map(str, (cut, unpruned, signs, tmp_path / "recover"))
    command = [sys.executable, "-c", FRESH_PROCESS, *files]

    def said(epochs: int) -> str:
        config = QUICK.model_copy(update={"epochs": epochs}).model_dump_json()
        return subprocess.run([*command, config], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    assert said(epochs=1) == "recover: up to date, skipped False"
    assert said(epochs=3) == "refused True"


def test_pruning_of_an_unfinished_training_stays(tmp_path: Path) -> None:
    """Another setting doesn't replace the pruning that an unfinished training started from; updates never ask to."""
    recovery, pruning = tmp_path / "recover", tmp_path / "prune"

    def job(amount: float, revision: int = 1) -> Job:
        return Job(
            stage="prune", folder=pruning, settings={"macs_removed": amount}, inputs={"model": "m"},
            revision=revision, packages=(),
        )  # fmt: skip

    job(0.5).begin()
    job(0.5).finish(Made(outputs=[]), seconds=1)
    require_no_unfinished(recovery, job(0.6))
    last = recovery / "train" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    last.touch()
    require_no_unfinished(recovery, job(0.5, revision=2))
    with pytest.raises(SlimError, match=r"unfinished training of the present pruned\.pt") as caught:
        require_no_unfinished(recovery, job(0.6))
    assert caught.value.culprits == ("macs_removed 0.5 -> 0.6",)
    (recovery / "manifest.json").write_text("{}")
    require_no_unfinished(recovery, job(0.6))
