"""Plans: what a dry run writes, applying it repeats byte for byte; a plan that doesn't fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import plans
from tests.helpers.plans import TWO_STEPS, with_row, with_settings
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.stages import plan, prune
from yolo_slim.stages.context import Context


def test_applying_a_plan_gives_the_same_bytes(
    pruned: PruneOutputs, trained: Path, context: Context, tmp_path: Path
) -> None:
    """A stage's own plan makes its own pruned.pt again, statistics included, and a dry run writes that plan."""
    again = plans.apply(pruned.plan, trained, tmp_path / "again", context)
    assert sha256(again.weights) == sha256(pruned.weights)
    assert sha256(again.plan) == sha256(pruned.plan)
    dry = plan.make(trained, TWO_STEPS, tmp_path / "dry", context)
    assert sha256(dry.plan) == sha256(pruned.plan)
    assert sha256(dry.widths) == sha256(pruned.widths)
    assert not list((tmp_path / "dry").glob("*.pt"))


def test_plan_of_another_model(
    pruned: PruneOutputs, untrained: Callable[[str], Path], context: Context, tmp_path: Path
) -> None:
    """A network of the same layers and other weights is refused."""
    with pytest.raises(SlimError, match="made for another model"):
        plans.apply(pruned.plan, untrained("yolo11n"), tmp_path / "out", context)


def test_plans_that_are_wrong(pruned: PruneOutputs, trained: Path, context: Context, tmp_path: Path) -> None:
    """A newer and an older schema, files that are no plan, and wrong keys and values each have their own message."""
    values, path = read_json(pruned.plan), tmp_path / "plan.json"
    norms = values["norms"]
    without_first = dict(list(norms.items())[1:])
    for content, message in (
        ({**values, "schema": 99}, "newer schema 99"),
        ({**values, "schema": 1}, "older schema 1"),
        ({"a": 1}, "not a prune plan"),
        ({**values, "layers": {"model.0.conv": {}}}, "outputs_before is None, expected a number"),
        ({**values, "layers": 3}, "layers: expected an object with a row for each of the layers"),
        ({**values, "edits": True}, "edits: unknown key. Did you mean 'edited'"),
        ({**values, "edited": 1}, "edited: got 1; expected true or false"),
        ({**values, "model_sha256": 5}, "model_sha256: got 5"),
        ({**values, "norms": without_first}, "model.0.bn: not in the plan"),
        ({**values, "norms": {**norms, "model.0.bm": norms["model.0.bn"]}}, "Did you mean 'model.0.bn'"),
        ({**values, "settings": {}}, "settings.imgsz: got None; expected a whole number from 1"),
        (with_settings(values, criterion="fischer"), "settings"),
        (with_settings(values, imgsz="64"), "settings.imgsz: got '64'"),
        (with_settings(values, imgsz=-64), "settings.imgsz: got -64"),
        (with_settings(values, seed=-1), "settings.seed: got -1"),
        (with_settings(values, sead=1), "settings.sead: unknown key. Did you mean 'seed'"),
        (with_settings(values, end2end=True), "no one-to-one head"),
        (with_settings(values, imgsz=100), "not a multiple of the model's stride 32"),
        (with_settings(values, end2end=0), "expected true or false"),
        (with_row(values, ranks=[0, 1]), "has 2 ranks for"),
        (with_row(values, ranks=["a"] * 32), "ranks must be numbers"),
        (with_row(values, outputs_before="many"), "outputs_before is 'many'"),
        (with_row(values, outputs=[[1], [2]]), "outputs must be increasing numbers"),
        (with_row(values, keeps=16), "model.2.cv1.conv.keeps: unknown key. Did you mean 'keep'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(SlimError, match=message):
            plans.apply(path, trained, tmp_path / "out", context)
    assert not (tmp_path / "out").exists()


def test_edited_plan_is_not_overwritten(pruned: PruneOutputs, trained: Path, context: Context, tmp_path: Path) -> None:
    """A plan edited where it lies stays: `plan make`, `prune` and `plan apply` refuse; an unedited one is rewritten."""
    folder = tmp_path / "own"
    shutil.copytree(pruned.plan.parent, folder)
    path = folder / "plan.json"
    for content in (json.dumps(with_row(read_json(path), keep=16)), "{half an edit"):
        path.write_text(content)
        for overwrite in (
            lambda: plan.make(trained, TWO_STEPS, folder, context),
            lambda: prune.run(prune.PruneInputs(model=trained), TWO_STEPS, folder, context),
            lambda: plans.apply(pruned.plan, trained, folder, context),
        ):
            with pytest.raises(SlimError, match="edited by hand and would be overwritten"):
                overwrite()
        assert path.read_text() == content
        assert (folder / "manifest.json").exists()
    shutil.copy(pruned.plan, path)
    assert sha256(plan.make(trained, TWO_STEPS, folder, context).plan) == sha256(pruned.plan)
    with pytest.raises(SlimError, match="pruned by another plan"):
        plan.make(trained, TWO_STEPS.model_copy(update={"macs_removed": 0.2}), folder, context)
    assert sha256(path) == sha256(pruned.plan)


def test_plan_from_before_a_setting_was_renamed(pruned: PruneOutputs, tmp_path: Path) -> None:
    """A plan with the former names of settings is read, and means the same."""
    values = json.loads(pruned.plan.read_text())
    former = {"steps": "rounds", "head_rate": "head_gentleness", "block_costs": "sensitivity"}
    values["settings"] = {former.get(key, key): value for key, value in values["settings"].items()}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    assert PrunePlan.load(path) == PrunePlan.load(pruned.plan)
