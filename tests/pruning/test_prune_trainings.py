"""Trainings inside of prune: sparse training and the recovery between steps resume, and what decides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import plans
from tests.helpers.listeners import Remembers, StopsTraining
from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context
from yolo_slim.training.prune_steps import PruneTrainings
from yolo_slim.workspace.job import Job

RECOVERING = PruneConfig(criterion="l2", normalize="mean", steps=2, bn_images=8, recover_epochs_between=2)
SPARSE = PruneConfig(criterion="bn", normalize="mean", steps=1, bn_images=8, sparse_epochs=2, sparse_strength=0.05)
HALF_OF_THE_IMAGES = {"fraction": 0.5, "workers": 0}


def files_in(folder: Path) -> dict[Path, str]:
    """File to the SHA-256 of its content."""
    return {path: sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps, from 0, that are cut while a test runs."""
    cut, found = Pruner.cut_step, list[int]()

    def noted(self: Pruner, model: Any, index: int, total: Any = None) -> Any:
        found.append(index)
        return cut(self, model, index, total)

    monkeypatch.setattr(Pruner, "cut_step", noted)
    return found


@pytest.mark.slow
def test_recovery_between_steps_resumes_after_a_stop(
    trained: Path, context: Context, tmp_path: Path, cuts: list[int]
) -> None:
    """A stopped recovery resumes after its last epoch; a finished one is skipped, and the rest repeats by the byte."""
    training = RecoverConfig(overrides=HALF_OF_THE_IMAGES)
    inputs, folder = prune.PruneInputs(model=trained, training=training), tmp_path / "prune"
    with pytest.raises(KeyboardInterrupt):
        prune.run(inputs, RECOVERING, folder, replace(context, progress=StopsTraining()))
    before = files_in(folder)
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        prune.run(inputs, RECOVERING.model_copy(update={"normalize": "max"}), folder, context)
    assert "normalize mean -> max" in str(caught.value)
    assert files_in(folder) == before
    cuts.clear()
    # How long the recovery afterwards trains, and whether it quantizes, has no part in these trainings.
    later = training.model_copy(
        update={"epochs": 60, "patience": 9, "overrides": {**training.overrides, "quantize": 8}}
    )
    listener = Remembers()
    outputs = prune.run(replace(inputs, training=later), RECOVERING, folder, replace(context, progress=listener))
    assert "resumes after epoch 1 of 2" in listener.said
    assert cuts == [1], "the network that was being trained is cut a second time"
    once, stored = sha256(outputs.weights), read_json(folder / "steps/1/manifest.json")["outputs"]
    assert set(stored) == {"pruned.pt", "recovered.pt", "plan.json", "state.json"}
    (folder / "manifest.json").unlink()
    # Nothing is trained again: this listener would stop it.
    listener = StopsTraining()
    outputs = prune.run(inputs, RECOVERING, folder, replace(context, progress=listener))
    assert "prune-step-1: up to date, skipped" in listener.said
    assert sha256(outputs.weights) == once


@pytest.mark.slow
def test_sparse_training_resumes_after_a_stop(trained: Path, context: Context, tmp_path: Path) -> None:
    """It shrinks the scales before the cut, resumes after its last epoch, and its network and plan make the result."""
    training = RecoverConfig(batch=8, overrides={**HALF_OF_THE_IMAGES, "lr0": 0.01})
    inputs, folder = prune.PruneInputs(model=trained, training=training), tmp_path / "prune"
    with pytest.raises(KeyboardInterrupt):
        prune.run(inputs, SPARSE, folder, replace(context, progress=StopsTraining()))
    weights = folder / "sparse" / "sparse.pt"
    assert not weights.exists()
    before = files_in(folder)
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        prune.run(inputs, SPARSE.model_copy(update={"sparse_strength": 0.1}), folder, context)
    assert "sparse_strength 0.05 -> 0.1" in str(caught.value)
    assert files_in(folder) == before
    # Sparse training has no teacher, so distillation doesn't make it another one.
    distilling = replace(inputs, training=training.model_copy(update={"distill": 1.0}))
    listener = Remembers()
    outputs = prune.run(distilling, SPARSE, folder, replace(context, progress=listener))
    assert "resumes after epoch 1 of 2" in listener.said
    gamma = read_json(folder / "sparse" / "manifest.json")["facts"]["gamma"]
    assert gamma["after"]["mean"] < gamma["before"]["mean"]
    again = plans.apply(outputs.plan, weights, tmp_path / "again", context)
    once, twice = (checkpoint.load(found.weights).model.state_dict() for found in (outputs, again))
    assert all(torch.equal(once[key], twice[key]) for key in {*once, *twice})
    with pytest.raises(SlimError, match="another model"):
        plans.apply(outputs.plan, trained, tmp_path / "other", context)


def test_what_decides_the_trainings(trained: Path, context: Context, tmp_path: Path) -> None:
    """Sparse training has no teacher and reads no block costs, the recovery between steps has both; length decides
    neither.
    """

    def fingerprints(inputs: dict[str, str], **changes: Any) -> tuple[str, str]:
        job = Job(
            stage="prune", folder=tmp_path, settings={}, inputs={"model": "m", "data": "d", **inputs}, revision=1,
            packages=(),
        )  # fmt: skip
        config = PruneConfig(sparse_epochs=1, recover_epochs_between=1)
        trainings = PruneTrainings(
            config=config, training=RecoverConfig().model_copy(update=changes), model=trained,
            dataset=context.dataset, prune_job=job, settings=context.recorded(config), options=context,
        )  # fmt: skip
        step = trainings.step_job(tmp_path, 1, base="b", previous="p")
        return trainings.sparse_job().fingerprint, step.fingerprint

    sparse, between = fingerprints({})
    assert fingerprints({}, epochs=99, patience=1, overrides={"quantize": 8}) == (sparse, between)
    for inputs, changes in (({"teacher": "t"}, {}), ({"block_costs": "s"}, {}), ({}, {"distill": 1.0})):
        other = fingerprints(inputs, **changes)
        assert (other[0] == sparse, other[1] == between) == (True, False)
    assert fingerprints({}, batch=4)[0] != sparse
