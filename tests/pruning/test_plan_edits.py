"""Edits of a plan: what is coupled follows them, and impossible ones are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import plans
from tests.helpers.plans import EDITED_LAYER, TWO_STEPS
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.plan_edits import differences
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context

Edit = Callable[[dict[str, dict[str, Any]]], PruneOutputs]
COUPLED_LAYER = "model.2.m.0.cv2.conv"
"""The other writer of the shortcut that :data:`EDITED_LAYER` writes."""


@pytest.fixture
def edited(pruned: PruneOutputs, trained: Path, context: Context, tmp_path: Path) -> Edit:
    """A function that changes layers of the plan and applies it: into out, out1, and so on."""
    folders = (tmp_path / f"out{n or ''}" for n in count())

    def apply(changes: dict[str, dict[str, Any]]) -> PruneOutputs:
        values = read_json(pruned.plan)
        for name, change in changes.items():
            values["layers"][name].update(change)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(values))
        return plans.apply(path, trained, next(folders), context)

    return apply


def widths(outputs: PruneOutputs) -> dict[str, int]:
    """Layer to its width after the cut."""
    return {row["layer"]: row["after"] for row in read_json(outputs.widths)["layers"]}


def test_keep_is_followed_by_what_is_coupled(pruned: PruneOutputs, edited: Edit) -> None:
    """A new width of one layer moves its halves, the shortcut's other writer and all readers along."""
    before = widths(pruned)
    assert before[EDITED_LAYER] == 32
    after = widths(edited({EDITED_LAYER: {"keep": 16}}))
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert changed == {EDITED_LAYER: (32, 16), COUPLED_LAYER: (16, 8)}


def test_keep_drops_the_lowest_ranks(pruned: PruneOutputs, edited: Edit) -> None:
    """A narrower layer keeps the channels that the criterion ranked highest, a wider one adds the next best."""
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
        outputs = PrunePlan.load(edited({name: {"keep": keep}}).plan).layers[name].outputs
        assert sorted(ranks[i] for i in outputs) == list(range(keep))


def test_edited_lists_are_followed(edited: Edit) -> None:
    """A changed list decides which channels stay, and what is coupled keeps the same."""
    chosen = [*range(8), *range(16, 24)]
    plan = PrunePlan.load(edited({EDITED_LAYER: {"outputs": chosen}}).plan)
    assert list(plan.layers[EDITED_LAYER].outputs) == chosen
    assert list(plan.layers[COUPLED_LAYER].outputs) == list(range(8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({EDITED_LAYER: {"outputs": list(range(24))}}, "model.2.cv1.conv has halves that keep 8 and 16"),
        ({EDITED_LAYER: {"keep": 17}}, "its 2 parts keep equal counts"),
        ({EDITED_LAYER: {"keep": 48}}, "keep is 48, expected a number from 1 to 32"),
        ({EDITED_LAYER: {"outputs": [3, 1]}}, "must be increasing numbers from 0 to 31"),
        ({"model.2.cv2.conv": {"keep": 4}}, "model.2.cv2.conv: 4 channels are below its floor of 8"),
        ({"model.1.conv": {"keep": 12}}, "not a multiple of round_to 8; take 8 or 16"),
        ({EDITED_LAYER: {"keep": 16}, COUPLED_LAYER: {"keep": 16}}, "must keep equal counts"),
        (
            {
                EDITED_LAYER: {"outputs": [*range(8), *range(16, 24)]},
                COUPLED_LAYER: {"outputs": list(range(8, 16))},
            },
            "are coupled and must keep the same channels",
        ),
        ({"model.23.cv3.0.2": {"keep": 2}}, "model.23.cv3.0.2: keep 2, but it must keep all channels"),
        ({"model.3.conv": {"inputs": [0]}}, "inputs and normalisations follow"),
    ],
)
def test_impossible_edits_are_named(
    changes: dict[str, dict[str, Any]], message: str, edited: Edit, tmp_path: Path
) -> None:
    """Every impossible width is refused with its layer, and nothing is written."""
    with pytest.raises(SlimError) as caught:
        edited(changes)
    assert message in str(caught.value)
    assert not (tmp_path / "out" / "pruned.pt").exists()


def test_edited_plan_repeats(
    edited: Edit, pruned: PruneOutputs, trained: Path, context: Context, tmp_path: Path
) -> None:
    """The plan that an edit led to can be applied again, far from its budget; no other plan replaces it unasked."""
    once = edited({f"model.{i}.conv": {"keep": 8 * 2**n} for n, i in enumerate((1, 3, 5, 7))})
    table = read_json(once.widths)
    assert abs(1 - table["slim"]["macs"] / table["control"]["macs"] - 0.5) > 0.03
    again = plans.apply(once.plan, trained, tmp_path / "again", context)
    assert sha256(again.weights) == sha256(once.weights)
    assert sha256(again.plan) == sha256(once.plan)
    again.weights.unlink()
    assert plans.apply(once.plan, trained, tmp_path / "again", context).weights.is_file()
    before = sha256(once.plan)
    for overwrite in (
        lambda: plans.apply(pruned.plan, trained, tmp_path / "out", context),
        lambda: prune.run(prune.PruneInputs(model=trained), TWO_STEPS, tmp_path / "out", context),
    ):
        with pytest.raises(SlimError, match="what `yolo-slim plan apply` made of an edited plan"):
            overwrite()
    assert (sha256(once.plan), once.weights.is_file()) == (before, True)
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_differences_of_two_plans(pruned: PruneOutputs, edited: Edit) -> None:
    """Only layers that keep other channels are listed, with what both keep; a plan doesn't differ from itself."""
    first = PrunePlan.load(pruned.plan)
    assert differences(first, first) == []
    second = PrunePlan.load(edited({EDITED_LAYER: {"keep": 16}}).plan)
    found = {row.layer: (row.before, row.first, row.second, row.common) for row in differences(first, second)}
    assert found[EDITED_LAYER] == (32, 32, 16, 16)
    assert set(found) == {EDITED_LAYER, COUPLED_LAYER}
