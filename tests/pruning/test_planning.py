"""Plans: what a dry run says, a replay repeats byte for byte; edits are followed or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint
from yolo_slim.pruning import budget
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.plan_edits import differences
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.stages import plan as plans
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context
from yolo_slim.stages.prune_source import exported_bytes
from yolo_slim.training.prune_steps import PruneTrainings
from yolo_slim.workspace.job import Job

CONFIG = PruneConfig(criterion="l2", normalize="mean", steps=2, bn_images=8)
Edit = Callable[..., PruneOutputs]


def apply(path: Path, model: Path, data: Path, folder: Path) -> PruneOutputs:
    """Prune a checkpoint by a plan at the plan's own input side."""
    imgsz, seed, end2end = plans.settings_in(path)
    return plans.apply(path, model, folder, Context.load(data, imgsz=imgsz, seed=seed, end2end=end2end))


@pytest.fixture(scope="module")
def pruned(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> PruneOutputs:
    """Return a finished prune of the shipped yolo11n."""
    folder = tmp_path_factory.mktemp("planned") / "prune"
    return prune.run(prune.PruneInputs(model=trained), CONFIG, folder, Context.load(signs, imgsz=64))


@pytest.fixture
def edited(pruned: PruneOutputs, trained: Path, signs: Path, tmp_path: Path) -> Edit:
    """Return a function that changes layers of the plan and applies it: into out, out1, and so on."""
    folders = (tmp_path / f"out{n or ''}" for n in count())

    def applied(**changes: dict[str, Any]) -> PruneOutputs:
        values = read_json(pruned.plan)
        for name, change in changes.items():
            values["layers"][name.replace("__", ".")].update(change)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(values))
        return apply(path, trained, signs, next(folders))

    return applied


def widths(outputs: PruneOutputs) -> dict[str, int]:
    """Return the widths after the cut."""
    return {row["layer"]: row["after"] for row in read_json(outputs.widths)["layers"]}


def test_replay_gives_the_same_bytes(pruned: PruneOutputs, trained: Path, signs: Path, tmp_path: Path) -> None:
    """A stage's own plan makes its own pruned.pt again, statistics included, and a dry run writes that plan."""
    again = apply(pruned.plan, trained, signs, tmp_path / "again")
    assert sha256(again.weights) == sha256(pruned.weights)
    assert sha256(again.plan) == sha256(pruned.plan)
    dry = plans.make(trained, CONFIG, tmp_path / "dry", Context.load(signs, imgsz=64))
    assert sha256(dry.plan) == sha256(pruned.plan)
    assert sha256(dry.widths) == sha256(pruned.widths)
    assert not list((tmp_path / "dry").glob("*.pt"))


def test_keep_is_followed_by_what_is_coupled(pruned: PruneOutputs, edited: Edit) -> None:
    """A new width of one layer moves its halves, the shortcut's other writer and all readers along."""
    before = widths(pruned)
    assert before["model.2.cv1.conv"] == 32
    after = widths(edited(model__2__cv1__conv={"keep": 16}))
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert changed == {"model.2.cv1.conv": (32, 16), "model.2.m.0.cv2.conv": (16, 8)}


def test_keep_drops_the_lowest_ranks(pruned: PruneOutputs, edited: Edit) -> None:
    """A narrower layer keeps the channels that the criterion ranked highest, a wider one gets the next best back."""
    plan = PrunePlan.load(pruned.plan)
    name = next(
        n
        for n, cut in plan.layers.items()
        if n in plan.ranks
        and 16 <= len(cut.outputs) < cut.outputs_before
        and len(set(plan.ranks[n])) == len(plan.ranks[n])
    )
    width, ranks = len(plan.layers[name].outputs), plan.ranks[name]
    for keep in (width - 8, width + 8):
        outputs = PrunePlan.load(edited(**{name.replace(".", "__"): {"keep": keep}}).plan).layers[name].outputs
        assert sorted(ranks[i] for i in outputs) == list(range(keep))


def test_edited_lists_are_followed(edited: Edit) -> None:
    """A changed list decides which channels stay, and what is coupled keeps the same."""
    chosen = [*range(8), *range(16, 24)]
    plan = PrunePlan.load(edited(model__2__cv1__conv={"outputs": chosen}).plan)
    assert list(plan.layers["model.2.cv1.conv"].outputs) == chosen
    assert list(plan.layers["model.2.m.0.cv2.conv"].outputs) == list(range(8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__2__cv1__conv": {"outputs": list(range(24))}}, "model.2.cv1.conv has halves that keep 8 and 16"),
        ({"model__2__cv1__conv": {"keep": 17}}, "its 2 parts keep equal counts"),
        ({"model__2__cv1__conv": {"keep": 48}}, "keep is 48, expected a number from 1 to 32"),
        ({"model__2__cv1__conv": {"outputs": [3, 1]}}, "must be increasing numbers from 0 to 31"),
        ({"model__2__cv2__conv": {"keep": 4}}, "model.2.cv2.conv: 4 channels are below its floor of 8"),
        ({"model__1__conv": {"keep": 12}}, "not a multiple of round_to 8; take 8 or 16"),
        ({"model__2__cv1__conv": {"keep": 16}, "model__2__m__0__cv2__conv": {"keep": 16}}, "must keep equal counts"),
        (
            {
                "model__2__cv1__conv": {"outputs": [*range(8), *range(16, 24)]},
                "model__2__m__0__cv2__conv": {"outputs": list(range(8, 16))},
            },
            "are coupled and must keep the same channels",
        ),
        ({"model__23__cv3__0__2": {"keep": 2}}, "model.23.cv3.0.2: keep 2, but it must keep all channels"),
        ({"model__3__conv": {"inputs": [0]}}, "inputs and normalisations follow"),
    ],
)
def test_impossible_edits_are_named(changes: dict[str, Any], message: str, edited: Edit, tmp_path: Path) -> None:
    """Every impossible width is refused with its layer, and nothing is written."""
    with pytest.raises(SlimError) as caught:
        edited(**changes)
    assert message in str(caught.value)
    assert not (tmp_path / "out" / "pruned.pt").exists()


def test_plans_of_another_model_or_schema(
    pruned: PruneOutputs, untrained: Callable[[str], Path], trained: Path, signs: Path, tmp_path: Path
) -> None:
    """Another model, a newer and an older schema, and files that are no plan have errors of their own."""
    with pytest.raises(SlimError, match="made for another model"):
        apply(pruned.plan, untrained("yolo11n"), signs, tmp_path / "out")
    values, path = read_json(pruned.plan), tmp_path / "plan.json"
    for content, message in (
        ({**values, "schema": 99}, "newer schema 99"),
        ({**values, "schema": 1}, "older schema 1"),
        ({"a": 1}, "not a prune plan"),
        ({**values, "layers": {"model.0.conv": {}}}, "outputs_before is None, expected a number"),
        ({**values, "layers": 3}, "layers: expected a line for each of them"),
        ({**values, "edits": True}, "edits: unknown key. Did you mean 'edited'"),
        ({**values, "edited": 1}, "edited: got 1; expected true or false"),
        ({**values, "model_sha256": 5}, "model_sha256: got 5"),
        ({**values, "norms": _without_one(values["norms"])}, "model.0.bn: not in the plan"),
        (
            {**values, "norms": {**values["norms"], "model.0.bm": values["norms"]["model.0.bn"]}},
            "Did you mean 'model.0.bn'",
        ),
        ({**values, "settings": {**values["settings"], "criterion": "fischer"}}, "settings"),
        ({**values, "settings": {}}, "settings.imgsz: got None; expected a whole number from 1"),
        ({**values, "settings": {**values["settings"], "imgsz": "64"}}, "settings.imgsz: got '64'"),
        ({**values, "settings": {**values["settings"], "imgsz": -64}}, "settings.imgsz: got -64"),
        ({**values, "settings": {**values["settings"], "seed": -1}}, "settings.seed: got -1"),
        ({**values, "settings": {**values["settings"], "sead": 1}}, "settings.sead: unknown key. Did you mean 'seed'"),
        ({**values, "settings": {**values["settings"], "end2end": True}}, "no one-to-one head"),
        ({**values, "settings": {**values["settings"], "imgsz": 100}}, "not a multiple of the model's stride 32"),
        ({**values, "settings": {**values["settings"], "end2end": 0}}, "expected true or false"),
        (_with_row(values, ranks=[0, 1]), "has 2 ranks for"),
        (_with_row(values, ranks=["a"] * 32), "ranks must be numbers"),
        (_with_row(values, outputs_before="many"), "outputs_before is 'many'"),
        (_with_row(values, outputs=[[1], [2]]), "outputs must be increasing numbers"),
        (_with_row(values, keeps=16), "model.2.cv1.conv.keeps: unknown key. Did you mean 'keep'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(SlimError, match=message):
            apply(path, trained, signs, tmp_path / "out")


def test_edited_plan_is_not_overwritten(pruned: PruneOutputs, trained: Path, signs: Path, tmp_path: Path) -> None:
    """A plan edited where it lies stays: by dry run, prune and replay; an unedited one is written again."""
    inputs, folder = prune.PruneInputs(model=trained), tmp_path / "own"
    shutil.copytree(pruned.plan.parent, folder)
    plan = folder / "plan.json"
    for content in (json.dumps(_with_row(read_json(plan), keep=16)), "{half an edit"):
        plan.write_text(content)
        for overwrite in (
            lambda: plans.make(trained, CONFIG, folder, Context.load(signs, imgsz=64)),
            lambda: prune.run(inputs, CONFIG, folder, Context.load(signs, imgsz=64)),
            lambda: apply(pruned.plan, trained, signs, folder),
        ):
            with pytest.raises(SlimError, match="edited by hand and would be overwritten"):
                overwrite()
        assert plan.read_text() == content
        assert (folder / "manifest.json").exists()
    shutil.copy(pruned.plan, plan)
    assert sha256(plans.make(trained, CONFIG, folder, Context.load(signs, imgsz=64)).plan) == sha256(pruned.plan)
    with pytest.raises(SlimError, match="pruned by another plan"):
        plans.make(trained, CONFIG.model_copy(update={"macs_removed": 0.2}), folder, Context.load(signs, imgsz=64))
    assert sha256(plan) == sha256(pruned.plan)


def _without_one(rows: dict[str, Any]) -> dict[str, Any]:
    """Return rows without the first one."""
    return dict(list(rows.items())[1:])


def test_edited_plan_repeats(edited: Edit, pruned: PruneOutputs, trained: Path, signs: Path, tmp_path: Path) -> None:
    """What an edit led to can be applied again, far from its budget; no other plan replaces it unasked."""
    inputs = prune.PruneInputs(model=trained)
    once = edited(**{f"model__{i}__conv": {"keep": 8 * 2**n} for n, i in enumerate((1, 3, 5, 7))})
    table = read_json(once.widths)
    assert abs(1 - table["slim"]["macs"] / table["control"]["macs"] - 0.5) > 0.03
    again = apply(once.plan, trained, signs, tmp_path / "again")
    assert sha256(again.weights) == sha256(once.weights)
    assert sha256(again.plan) == sha256(once.plan)
    again.weights.unlink()
    assert apply(once.plan, trained, signs, tmp_path / "again").weights.is_file()
    before = sha256(once.plan)
    for overwrite in (
        lambda: apply(pruned.plan, trained, signs, tmp_path / "out"),
        lambda: prune.run(inputs, CONFIG, tmp_path / "out", Context.load(signs, imgsz=64)),
    ):
        with pytest.raises(SlimError, match="what `yolo-slim plan apply` made of an edited plan"):
            overwrite()
    assert (sha256(once.plan), once.weights.is_file()) == (before, True)
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_dry_run_keeps_to_the_budget(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run refuses the cut that prune would refuse, and writes no plan of it."""
    monkeypatch.setattr(budget, "MAX_ERROR", 1e-6)
    context = Context.load(signs, imgsz=64)
    for refused in (
        lambda: plans.make(trained, CONFIG, tmp_path / "out", context),
        lambda: prune.run(prune.PruneInputs(model=trained), CONFIG, tmp_path / "out", context),
    ):
        with pytest.raises(SlimError, match=r"Asked to remove 50\.0% of the MACs"):
            refused()
    assert not list((tmp_path / "out").glob("*.json"))


def _with_row(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a plan's JSON value with one layer's line changed."""
    layers = values["layers"]
    return {**values, "layers": {**layers, "model.2.cv1.conv": {**layers["model.2.cv1.conv"], **changes}}}


def test_differences_of_two_plans(pruned: PruneOutputs, edited: Edit) -> None:
    """Only layers that keep other channels are listed, with what both keep; a plan doesn't differ from itself."""
    first = PrunePlan.load(pruned.plan)
    assert differences(first, first) == []
    second = PrunePlan.load(edited(model__2__cv1__conv={"keep": 16}).plan)
    found = {row.layer: (row.before, row.first, row.second, row.common) for row in differences(first, second)}
    assert found["model.2.cv1.conv"] == (32, 32, 16, 16)
    assert set(found) == {"model.2.cv1.conv", "model.2.m.0.cv2.conv"}


@pytest.mark.parametrize(
    ("settings", "key", "removed"),
    [
        ({"params_removed": 0.4}, "params", 0.4),
        ({"scope": "isomorphic"}, "macs", 0.5),
        ({"scope": "uniform"}, "macs", 0.5),
    ],
)
def test_budgets_and_scopes_reach_their_target(
    settings: dict[str, Any], key: str, removed: float, trained: Path, signs: Path, tmp_path: Path
) -> None:
    """What is counted falls as asked."""
    config = PruneConfig(criterion="l2", normalize="mean", steps=2, schedule="geometric", **settings)
    dry = plans.make(trained, config, tmp_path, Context.load(signs, imgsz=64))
    table = read_json(dry.widths)
    assert 1 - table["slim"][key] / table["control"][key] == pytest.approx(removed, abs=0.03)


@pytest.mark.slow
def test_size_budget_is_kept_by_the_file(trained: Path, signs: Path, tmp_path: Path) -> None:
    """The exported ONNX file of the pruned network is no larger than asked, and not needlessly small."""
    inputs = prune.PruneInputs(model=trained)
    config = PruneConfig(max_size_mb=6.0, criterion="l2", normalize="mean", steps=1, bn_images=8)
    outputs = prune.run(inputs, config, tmp_path / "out", Context.load(signs, imgsz=64))
    assert 5.5e6 < exported_bytes(outputs.weights, imgsz=64, end2end=False) <= 6.0e6
    limited = config.model_copy(update={"max_size_mb": 1.0, "min_share": 0.5})
    with pytest.raises(SlimError, match="below their floor") as caught:
        prune.run(inputs, limited, tmp_path / "small", Context.load(signs, imgsz=64))
    least = re.match(r"Set prune\.max_size_mb above (\d+\.\d+), or lower", caught.value.remedy)
    assert least, caught.value.remedy
    followed = limited.model_copy(update={"max_size_mb": float(least[1])})
    smallest = prune.run(inputs, followed, tmp_path / "smallest", Context.load(signs, imgsz=64))
    assert exported_bytes(smallest.weights, imgsz=64, end2end=False) <= 1e6 * float(least[1])
    with pytest.raises(SlimError, match="MB unpruned"):
        prune.run(
            inputs, config.model_copy(update={"max_size_mb": 60.0}), tmp_path / "large", Context.load(signs, imgsz=64)
        )


class _Stops:
    """A listener that stops the run in the second epoch of a training, as a kill would."""

    def __init__(self, stop: bool) -> None:
        self.stop, self.said = stop, ""

    def step(self, text: str, done: int, total: int) -> None:
        if self.stop and text == "prune: train" and done == 2:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        self.said += text


@pytest.mark.slow
def test_recovery_between_steps_resumes_after_a_stop(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped step resumes after its last epoch; a finished one is up to date, and the rest repeats byte for byte."""
    config = PruneConfig(criterion="l2", normalize="mean", steps=2, bn_images=8, recover_epochs_between=2)
    training = RecoverConfig(overrides={"fraction": 0.5, "workers": 0})
    inputs, folder = prune.PruneInputs(model=trained), tmp_path / "prune"
    with pytest.raises(KeyboardInterrupt):
        prune.run(
            replace(inputs, training=training),
            config,
            folder,
            Context.load(signs, imgsz=64, progress=_Stops(stop=True)),
        )
    before = {path: sha256(path) for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SlimError, match="unfinished training with other settings") as caught:
        prune.run(
            replace(inputs, training=training),
            config.model_copy(update={"normalize": "max"}),
            folder,
            Context.load(signs, imgsz=64),
        )
    assert "normalize mean -> max" in str(caught.value)
    assert {path: sha256(path) for path in folder.rglob("*") if path.is_file()} == before
    cut, steps = Pruner.cut_step, []

    def noted(self: Pruner, model: Any, index: int, total: Any = None) -> Any:
        steps.append(index)
        return cut(self, model, index, total)

    monkeypatch.setattr(Pruner, "cut_step", noted)
    listener = _Stops(stop=False)
    # How long the recovery afterwards trains, and whether it quantizes, has no part in these trainings.
    later = training.model_copy(
        update={"epochs": 60, "patience": 9, "overrides": {**training.overrides, "quantize": 8}}
    )
    outputs = prune.run(
        replace(inputs, training=later), config, folder, Context.load(signs, imgsz=64, progress=listener)
    )
    assert "training resumes after epoch 1 of 2" in listener.said
    assert steps == [1], "the network that was being trained is cut a second time"
    once, stored = sha256(outputs.weights), read_json(folder / "steps/1/manifest.json")["outputs"]
    assert set(stored) == {"pruned.pt", "recovered.pt", "plan.json", "state.json"}
    (folder / "manifest.json").unlink()
    listener = _Stops(stop=True)
    outputs = prune.run(
        replace(inputs, training=training), config, folder, Context.load(signs, imgsz=64, progress=listener)
    )
    assert "prune-step: up to date, skipped" in listener.said
    assert sha256(outputs.weights) == once
    shutil.rmtree(folder)


def test_what_decides_the_trainings_inside_of_prune(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Sparse training has no teacher and no block costs; recovery between steps has both; length decides neither."""

    def jobs(inputs: dict[str, str], **changes: Any) -> tuple[str, str]:
        digests = {"model": "m", "data": "d", **inputs}
        trainings = PruneTrainings(
            config=PruneConfig(sparse_epochs=1, recover_epochs_between=1), model=trained, dataset=load_dataset(signs),
            training=RecoverConfig().model_copy(update=changes), settings={"imgsz": 64, "seed": 0, "end2end": False},
            prune_job=Job(stage="prune", folder=tmp_path, settings={}, inputs=digests, revision=1, packages=()),
            options=Context.load(signs, imgsz=64),
        )  # fmt: skip
        step = trainings.step_job(tmp_path, 1, base="b", previous="p")
        return trainings.sparse_job().fingerprint, step.fingerprint

    sparse, between = jobs({})
    assert jobs({}, epochs=99, patience=1, overrides={"quantize": 8}) == (sparse, between)
    for inputs, changes in (({"teacher": "t"}, {}), ({"block_costs": "s"}, {}), ({}, {"distill": 1.0})):
        other = jobs(inputs, **changes)
        assert (other[0] == sparse, other[1] == between) == (True, False)
    assert jobs({}, batch=4)[0] != sparse


@pytest.mark.slow
def test_sparse_training_resumes_after_a_stop(trained: Path, signs: Path, tmp_path: Path) -> None:
    """It shrinks the scales before the cut, resumes after its last epoch, and its network and plan make the result."""
    config = PruneConfig(criterion="bn", normalize="mean", steps=1, bn_images=8, sparse_epochs=2, sparse_strength=0.05)
    training = RecoverConfig(batch=8, overrides={"fraction": 0.5, "workers": 0, "lr0": 0.01})
    inputs, folder = prune.PruneInputs(model=trained), tmp_path / "prune"
    with pytest.raises(KeyboardInterrupt):
        prune.run(
            replace(inputs, training=training),
            config,
            folder,
            Context.load(signs, imgsz=64, progress=_Stops(stop=True)),
        )
    assert not (folder / "sparse" / "sparse.pt").exists()
    listener = _Stops(stop=False)
    outputs = prune.run(
        replace(inputs, training=training.model_copy(update={"distill": 1.0})),
        config,
        folder,
        Context.load(signs, imgsz=64, progress=listener),
    )
    assert "training resumes after epoch 1 of 2" in listener.said
    gamma = read_json(folder / "sparse" / "manifest.json")["facts"]["gamma"]
    assert gamma["after"]["mean"] < gamma["before"]["mean"]
    again = apply(outputs.plan, folder / "sparse" / "sparse.pt", signs, tmp_path / "again")
    once, twice = (checkpoint.load(found.weights).model.state_dict() for found in (outputs, again))
    assert all(torch.equal(once[key], twice[key]) for key in {*once, *twice})
    with pytest.raises(SlimError, match="another model"):
        apply(outputs.plan, trained, signs, tmp_path / "other")
