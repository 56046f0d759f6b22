"""How the methods' networks are made: narrower stock networks, torch-pruning's cut, a smaller input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.modules import block
from ultralytics.nn.tasks import DetectionModel

from tests.helpers import tiny_data
from tests.helpers.comparisons import prepared
from tests.helpers.constants import FAMILIES
from yolo_slim import preparation
from yolo_slim.api import make_config
from yolo_slim.build_key import BuildName
from yolo_slim.comparison import narrow, starts, uniform_l2
from yolo_slim.comparison.equal_latency import AtBudget, EqualShare, Try, to_macs_of
from yolo_slim.comparison.methods import METHODS
from yolo_slim.comparison.starts import Place, Setting
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.measuring.latency_cut import LatencyCut, TimedCut
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import conv_widths, measure
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.outputs import PruneOutputs, outputs_in
from yolo_slim.pruning.plan import PrunePlan

IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def outputs(model: nn.Module) -> torch.Tensor:
    """Return a network's raw output for an image."""
    with torch.no_grad():
        return model.eval()(IMAGE)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_narrow_network(family: str, untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """It has the MACs within 3 points, the classes, and is loaded and run by Ultralytics alone."""
    loaded = checkpoint.load(untrained(family))
    full = measure(loaded.model, 64).macs
    width = narrow.find_width(loaded, 0.5 * full, imgsz=64, end2end=False)
    model = narrow.stock_model(loaded, width)
    narrow.take_leading(loaded.model, model, loaded.stride)
    assert measure(model, 64).macs / full == pytest.approx(0.5, abs=0.03)
    checkpoint.save(tmp_path / "narrow.pt", loaded, model)
    stock = YOLO(tmp_path / "narrow.pt")
    assert stock.names == loaded.names
    assert torch.equal(outputs(stock.model.float()), outputs(model))
    assert max(conv_widths(model).values()) < max(conv_widths(loaded.model).values())


@pytest.mark.parametrize("family", ["yolov8n", "yolo26n", "yolov9t", "yolo12n"])
def test_leading_channels_at_full_width_are_all(family: str, untrained: Callable[[str], Path]) -> None:
    """Taken at the width that it has, a network is itself; random weights aren't (negative control)."""
    source = checkpoint.load(untrained(family))
    copied = narrow.stock_model(source)
    assert not torch.equal(outputs(copied), outputs(source.model))
    narrow.take_leading(source.model, copied, source.stride)
    assert torch.equal(outputs(copied), outputs(source.model))


def test_leading_channels_follow_splits_and_concatenations(untrained: Callable[[str], Path]) -> None:
    """Both halves of a split keep their first channels, and readers of a concatenation those of every part."""
    source = checkpoint.load(untrained("yolov8n"))
    model = narrow.stock_model(source, 0.125)
    narrow.take_leading(source.model, model, source.stride)
    wide, slim = (m.get_submodule("model.2") for m in (source.model, model))
    half, less = wide.cv1.conv.out_channels // 2, slim.cv1.conv.out_channels // 2
    inputs = slim.cv1.conv.in_channels
    rows = [*range(less), *range(half, half + less)]
    assert torch.equal(slim.cv1.conv.weight, wide.cv1.conv.weight[rows][:, :inputs])
    assert torch.equal(slim.cv1.bn.running_mean, wide.cv1.bn.running_mean[rows])
    parts = [part * half + i for part in range(3) for i in range(less)]
    assert torch.equal(slim.cv2.conv.weight, wide.cv2.conv.weight[: slim.cv2.conv.out_channels][:, parts])


@pytest.mark.parametrize("halves", [True, False])
def test_leading_channels_of_what_is_read_in_halves(halves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADown's second convolution reads the partners of its channels; with leading ones alone it wouldn't (control)."""
    if not halves:
        monkeypatch.setattr(narrow, "READS_HALVES", ())
    source = tiny_data.network("yolov9c", "detect")
    described, _ = narrow.stock_yaml(source, 0.7)
    target = DetectionModel(described, nc=len(source.names), verbose=False).eval()
    wide, slim = (trace_channels(model, 64) for model in (source, target))
    rows, columns, _ = narrow.leading(source, target, wide, slim)
    partner = {
        label: wide.convs[name].outputs[row]
        for name, site in slim.convs.items()
        for label, row in zip(site.outputs.tolist(), rows[name], strict=True)
    }
    names = [name for name in slim.convs if isinstance(source.get_submodule(name.rpartition(".cv")[0]), block.ADown)]
    assert len(names) == 10
    right = [
        [partner[label] for label in slim.convs[name].inputs.tolist()]
        == wide.convs[name].inputs[columns[name]].tolist()
        for name in names
    ]
    assert all(right) is halves


def test_pruned_checkpoint_has_no_narrower_family(untrained: Callable[[str], Path]) -> None:
    """A network that isn't what its yaml says is refused."""
    loaded = checkpoint.load(untrained("yolov8n"))
    loaded.model.yaml["scales"]["n"][1] = 0.5
    with pytest.raises(SlimError, match="isn't the network that its yaml describes"):
        narrow.find_width(loaded, 1e8, imgsz=64, end2end=False)


@pytest.mark.parametrize("family", ["yolov8n", "yolo26n", "yolov10n", "yolov9t"])
def test_taking_apart_changes_nothing(family: str, untrained: Callable[[str], Path]) -> None:
    """Split and merged again without a cut, a network answers exactly as before and has only stock classes."""
    model = checkpoint.load(untrained(family)).model
    before, kinds = outputs(model), [type(m) for m in model.modules()]
    with uniform_l2.taken_apart(model):
        assert any(isinstance(module, uniform_l2.Halves) for module in model.modules())
    assert torch.equal(outputs(model), before)
    assert [type(m) for m in model.modules()] == kinds


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_prunings_cut(family: str, untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """The merged network computes what torch-pruning's taken-apart one does, is smaller, and loads natively."""
    loaded = checkpoint.load(untrained(family))
    model = copy.deepcopy(loaded.model)
    apart: list[nn.Module] = []
    merge = uniform_l2.Halves.merge_into

    def remember(half: uniform_l2.Halves, conv: nn.Module, name: str) -> None:
        apart.append(copy.deepcopy(half))
        merge(half, conv, name)

    with patch.object(uniform_l2.Halves, "merge_into", remember):
        uniform_l2.prune(model, 0.4, 8, loaded.stride)
    assert measure(model, 64).macs < 0.75 * measure(loaded.model, 64).macs
    assert len(apart) == len([m for m in model.modules() if isinstance(m, narrow.HALVED)])
    first = model.get_submodule("model.2")
    given = torch.rand(1, first.cv1.conv.in_channels, 8, 8)
    with torch.no_grad():
        assert torch.allclose(first(given), apart[0].eval()(given), atol=1e-5)
    checkpoint.save(tmp_path / "plain.pt", loaded, model)
    stock = YOLO(tmp_path / "plain.pt")
    assert torch.equal(outputs(stock.model.float()), outputs(model))
    before = conv_widths(loaded.model)
    assert all(width % 8 == 0 for name, width in conv_widths(model).items() if width != before[name])


def test_bounded(untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """Too little time or memory is a reason, not a hang or a crash."""
    task = uniform_l2.PlainTask(
        model=str(untrained("yolov8n")), out=str(tmp_path / "out.pt"), macs=1e7, imgsz=64, end2end=False, round_to=8
    )
    with pytest.raises(MachineError, match="took more than 0 s"):
        uniform_l2.run_apart(task, seconds=0.2)
    with pytest.raises(MachineError, match="too little memory"):
        uniform_l2.run_apart(task, memory_gb=0.3)
    assert not (tmp_path / "out.pt").exists()


MADE = LatencyCut(
    budget_ms=5.0, build=BuildName("onnxruntime", "fp32"), device="a board", unpruned_ms=9.0, overhead_ms=1.0,
    table_error_median=0.01, table_error_worst=0.02, cuts=(TimedCut(predicted_ms=5.0, measured_ms=5.0),), kept=0,
)  # fmt: skip


def place(model: Path, data: Path, folder: Path, removed: float = 0.4) -> Place:
    """Return where a method's start is made."""
    run = prepared(model, data, folder, **{"prune.macs_removed": removed})
    return Place(setting=Setting(run), folder=folder, removed=removed, seed=1)


def test_stand_in_is_named(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Where torch-pruning fails, our own l2 replaces it under its own name and with the reason, and is kept."""
    with patch.object(uniform_l2, "run_apart", side_effect=SlimError("torch-pruning took more than 600 s.")) as tried:
        spots = [place(trained, signs, tmp_path), place(trained, signs, tmp_path)]
        starts = [METHODS["uniform-l2"].make(spot) for spot in spots]
    assert tried.call_count == 1
    assert starts[0] == starts[1]
    assert "yolo_slim: criterion l2, scope uniform, one step" in starts[0].implementation
    assert "torch-pruning took more than 600 s." in starts[0].implementation
    assert measure(checkpoint.load(starts[0].weights).model, 64).macs < 0.7 * spots[0].setting.full_macs


def test_nothing_stands_in_for_a_busy_machine(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Too little time or memory fails in this call alone; the next one tries again."""
    spot = place(trained, signs, tmp_path)
    with patch.object(uniform_l2, "run_apart", side_effect=MachineError("took too long.")) as tried:
        for _ in range(2):
            with pytest.raises(SlimError, match="took too long") as caught:
                METHODS["uniform-l2"].make(spot)
            assert not isinstance(caught.value, MachineError)
    assert tried.call_count == 2


@pytest.mark.parametrize(("given", "expected"), [({}, {16}), ({"prune.round_to": 8}, {8})])
def test_one_multiple_at_equal_latency(
    given: dict[str, int], expected: set[int], trained: Path, signs: Path, tmp_path: Path
) -> None:
    """Every cut to MACs has widths of one multiple: the target's, as without milliseconds, or the one that is given."""
    config = make_config(trained, signs, imgsz=64, target="host", latency_ms=5.0, settings=given)
    run = preparation.prepared(config, tmp_path)
    budget = AtBudget(
        weights=trained, cut=MADE, share=EqualShare(ours_ms=5.0, tries=(Try(removed=0.4, ms=5.0),)),
        to_macs=to_macs_of(config.prune, run.context.profile),
    )  # fmt: skip
    spot = Place(setting=Setting(run, budget), folder=tmp_path, removed=0.4, seed=1)
    found: dict[str, int | None] = {}

    def pruned(_: object, config: PruneConfig, *__: object, **___: object) -> PruneOutputs:
        assert (config.macs_removed, config.frame_ms) == (0.4, None)
        found[config.criterion] = config.round_to
        return outputs_in(tmp_path)

    def cut(task: uniform_l2.PlainTask) -> float:
        found["uniform-l2"] = task.round_to
        Path(task.out).write_bytes(trained.read_bytes())
        return 0.4

    with patch.object(starts.prune, "run", pruned), patch.object(uniform_l2, "run_apart", cut):
        for method in ("macs", "random", "uniform-l2"):
            METHODS[method].make(spot)
    assert set(found) == {config.prune.criterion, "random", "uniform-l2"}
    assert set(found.values()) == expected


def test_widths_with_gaps(untrained: Callable[[str], Path]) -> None:
    """Where most widths can't be built, all are tried; none near the MACs is a reason, not the whole network again."""
    loaded = checkpoint.load(untrained("yolov8n"))
    full = measure(loaded.model, 64).macs

    def building(possible: Callable[[float], bool]) -> Callable[..., float | None]:
        return lambda _checkpoint, width, *_: full * (width / 0.25) ** 2 if possible(width) else None

    with patch.object(narrow, "stock_macs", building(lambda width: width > 0.24 or abs(width - 0.18) < 0.005)):
        assert narrow.find_width(loaded, 0.5 * full, imgsz=64, end2end=False) == pytest.approx(0.18, abs=0.005)
    with (
        patch.object(narrow, "stock_macs", building(lambda width: width > 0.24)),
        pytest.raises(SlimError, match="no narrower member with 50% of the MACs; the nearest has 9"),
    ):
        narrow.find_width(loaded, 0.5 * full, imgsz=64, end2end=False)


def test_random_depends_on_the_seed(untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Two seeds keep other channels, at the MACs that were asked for."""
    spots = [replace(place(untrained("yolov8n"), signs, tmp_path / str(seed)), seed=seed) for seed in (1, 2)]
    plans = [PrunePlan.load(METHODS["random"].make(spot).weights.with_name("plan.json")) for spot in spots]
    assert plans[0].layers != plans[1].layers
    found = [measure(checkpoint.load(spot.folder / "pruned.pt").model, 64).macs for spot in spots]
    assert found == pytest.approx([spots[0].macs] * 2, abs=0.03 * spots[0].setting.full_macs)


def test_small_input(trained: Path, signs: Path, tmp_path: Path) -> None:
    """The largest side that fits is taken; below one stride there is none."""
    assert METHODS["small-input"].make(place(trained, signs, tmp_path)).imgsz == 32
    with pytest.raises(SlimError, match="no input side below 64 px"):
        METHODS["small-input"].make(place(trained, signs, tmp_path, removed=0.9))


def test_scratch_depends_on_the_seed(untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Random weights are those of the seed, and again the same for the same one."""
    first, again, other = (
        replace(place(untrained("yolov8n"), signs, tmp_path / name), seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    with patch.object(narrow, "find_width", return_value=0.15):
        made = [checkpoint.load(METHODS["scratch"].make(spot).weights).model for spot in (first, again, other)]
    weights = [model.get_submodule("model.0.conv").weight for model in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_nearest() -> None:
    """Halving finds the nearest of a stepped cost, also where a part of it is unknown."""
    found = narrow.nearest(lambda x: None if x < 0.3 else float(int(x * 8)), 4.2, low=0.0, high=1.0, steps=10)
    assert int(found * 8) == 4
