"""Budgets: MACs, parameters and the file's size fall as asked; what can't be reached is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.plans import TWO_STEPS
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.pruning import budget
from yolo_slim.stages import plan, prune
from yolo_slim.stages.context import Context
from yolo_slim.stages.prune_source import exported_bytes


def test_dry_run_keeps_to_the_budget(
    trained: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run refuses the cut that prune would refuse, and writes no plan of it."""
    monkeypatch.setattr(budget, "MAX_ERROR", 1e-6)
    for refused in (
        lambda: plan.make(trained, TWO_STEPS, tmp_path / "out", context),
        lambda: prune.run(prune.PruneInputs(model=trained), TWO_STEPS, tmp_path / "out", context),
    ):
        with pytest.raises(SlimError, match=r"Asked to remove 50\.0% of the MACs"):
            refused()
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.parametrize(
    ("settings", "key", "removed"),
    [
        ({"params_removed": 0.4}, "params", 0.4),
        ({"scope": "isomorphic"}, "macs", 0.5),
        ({"scope": "uniform"}, "macs", 0.5),
    ],
)
def test_budgets_and_scopes_reach_their_target(
    settings: dict[str, Any], key: str, removed: float, trained: Path, context: Context, tmp_path: Path
) -> None:
    """What is counted falls as asked."""
    config = PruneConfig(criterion="l2", normalize="mean", steps=2, schedule="geometric", **settings)
    table = read_json(plan.make(trained, config, tmp_path, context).widths)
    assert 1 - table["slim"][key] / table["control"][key] == pytest.approx(removed, abs=0.03)


@pytest.mark.slow
def test_size_budget_is_kept_by_the_file(trained: Path, context: Context, tmp_path: Path) -> None:
    """The exported ONNX file of the pruned network is no larger than asked, and not needlessly small."""

    def onnx_bytes(folder: str, max_size_mb: float, **others: Any) -> int:
        config = PruneConfig(
            max_size_mb=max_size_mb, criterion="l2", normalize="mean", steps=1, bn_images=8, **others
        )  # fmt: skip
        outputs = prune.run(prune.PruneInputs(model=trained), config, tmp_path / folder, context)
        return exported_bytes(outputs.weights, imgsz=64, end2end=False)

    assert 5.5e6 < onnx_bytes("out", 6.0) <= 6.0e6
    with pytest.raises(SlimError, match="below their floor") as caught:
        onnx_bytes("small", 1.0, min_share=0.5)
    least = re.match(r"Set prune\.max_size_mb above (\d+\.\d+), or lower", caught.value.remedy)
    assert least, caught.value.remedy
    assert onnx_bytes("smallest", float(least[1]), min_share=0.5) <= 1e6 * float(least[1])
    with pytest.raises(SlimError, match="MB unpruned"):
        onnx_bytes("large", 60.0)
