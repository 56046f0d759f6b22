"""How much goes where: scopes, budgets, floors, protected layers, and errors that name the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.cuts import random_plan
from yolo_slim.config.run import PruneConfig
from yolo_slim.config.strict import parse
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.measuring.block_costs import RoundMs
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import exported_layers, measure
from yolo_slim.pruning.allocation import (
    Problem,
    allocate_apart,
    allocate_global,
    allocate_isomorphic,
    allocate_uniform,
    scheduled,
    undo_needless_steps,
)
from yolo_slim.pruning.block_costs import BlockCost, BlockCosts, load_block_costs, prices
from yolo_slim.pruning.decisions import decide_unscored, make_terms, slot_widths
from yolo_slim.pruning.goal import CostModel, Goal, make_cost_model
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.slots import Slot, structures, widths_of
from yolo_slim.pruning.surgery import apply_plan

GOAL = Goal(removed=0.5)


def chain(widths: list[int], scores: list[list[float]], floor: int) -> tuple[list[Slot], CostModel]:
    """Return slots and costs of convolutions in a row, of one pixel and kernel area 1."""
    count = len(widths)
    slots = [
        Slot(name=f"conv{i}", spaces=(i,), width=w, floor=floor, unit_scores=np.array(s))
        for i, (w, s) in enumerate(zip(widths, scores, strict=True))
    ]
    reads = np.eye(count, k=-1)
    fixed = np.array([3.0] + [0.0] * (count - 1))
    return slots, CostModel(reads=reads, writes=np.eye(count), reads_fixed=fixed, unit=np.ones(count), goal=GOAL)


def problem(slots: list[Slot], cost: CostModel, target: float, round_to: int = 8) -> Problem:
    """Return the question for the widths of all slots."""
    return Problem(slots=slots, cost=cost, target=target, round_to=round_to)


def slots_of(path: Path, config: PruneConfig) -> tuple[ChannelGraph, list[Slot]]:
    """Return a checkpoint's channel graph and decisions at 64 px, all scores equal."""
    model = checkpoint.load(path).model
    graph = trace_channels(model, 64)
    terms = make_terms(model, graph, config, exported_layers(model, end2end=False), {})
    return graph, decide_unscored(graph, terms)


def test_global_takes_the_cheapest_first() -> None:
    """The layer with the lower scores gives its channels up before the other loses one."""
    slots, cost = chain([16, 16], [[1.0] * 16, [9.0] * 16], floor=8)
    full = cost.total(np.array([16.0, 16.0]))
    keep = allocate_global(problem(slots, cost, 0.8 * full), per_mac=0)
    assert keep.tolist() == [8, 16]


def test_uniform_takes_the_same_share() -> None:
    """Every layer gives up the same share."""
    slots, cost = chain([32, 32], [[1.0] * 32, [9.0] * 32], floor=8)
    keep = allocate_uniform(problem(slots, cost, 400), lambda _: 1.0)
    assert keep.tolist() == [16, 16]


def test_uniform_takes_no_needless_step() -> None:
    """Layers of one width would all take their next step at one share; those whose step isn't needed don't."""
    slots, cost = chain([32] * 6, [[1.0] * 32] * 6, floor=8)
    target = 0.9 * cost.total(widths_of(slots))
    keep = allocate_uniform(problem(slots, cost, target, round_to=16), lambda _: 1.0)
    assert sorted(keep.tolist()) == [16, 32, 32, 32, 32, 32]
    assert cost.total(keep) <= target < cost.total(widths_of(slots))


def test_isomorphic_ranks_within_a_kind() -> None:
    """Each kind loses the same share, whatever its scale, and within a kind the cheaper layer is cut."""
    scores = [[1.0] * 32, [2.0] * 32, [900.0] * 32, [1000.0] * 32]
    slots, cost = chain([32] * 4, scores, floor=8)
    slots = [replace(slot, kind="a" if i < 2 else "b") for i, slot in enumerate(slots)]
    target = 0.6 * cost.total(widths_of(slots))
    keep = allocate_isomorphic(problem(slots, cost, target), lambda _: 1.0)
    assert keep[:2].sum() == keep[2:].sum()
    assert keep[0] < keep[1]
    assert keep[2] < keep[3]
    globally = allocate_global(problem(slots, cost, target), per_mac=0)
    assert globally[:2].sum() < globally[2:].sum()


@pytest.mark.parametrize("allocate", [allocate_uniform, allocate_isomorphic])
def test_share_of_the_head_holds_at_the_floor(allocate: Callable[..., np.ndarray]) -> None:
    """The head keeps its share of the cut, also where everything else is at its floor; less can't be reached."""
    slots, cost = chain([64, 64], [[1.0] * 64] * 2, floor=8)
    slots[1] = replace(slots[1], head=True)

    def share(slot: Slot) -> float:
        return 0.5 if slot.head else 1.0

    least = cost.total(np.array([8, 32]))
    assert allocate(problem(slots, cost, least), share).tolist() == [8, 32]
    with pytest.raises(SlimError):
        allocate(problem(slots, cost, 0.9 * least), share)


def test_structures_tell_kinds_apart(untrained: Callable[[str], Path]) -> None:
    """Bottlenecks of equal make share a kind whatever their width, and a block's last layer has another."""
    graph, slots = slots_of(untrained("yolov8n"), PruneConfig())
    kinds = {slot.name: kind for slot, kind in zip(slots, structures(graph), strict=True)}
    assert kinds["model.2.m.0.cv1.conv"] == kinds["model.6.m.1.cv1.conv"]
    assert kinds["model.2.cv2.conv"] != kinds["model.2.m.0.cv1.conv"]


def test_head_with_a_ratio_of_its_own() -> None:
    """The head loses its own share, and the rest loses what the budget then still needs."""
    slots, cost = chain([32, 32, 32], [[1.0] * 32, [1.0] * 32, [9.0] * 32], floor=8)
    slots[2] = replace(slots[2], head=True)
    rows = np.array([False, False, True])
    full, head_full = (c.total(widths_of(slots)) for c in (cost, cost.of_head(rows)))

    def allocate(given: Problem) -> np.ndarray:
        return allocate_global(given, per_mac=0)

    keep = allocate_apart(allocate, problem(slots, cost, 0.4 * full), head_rows=rows, head_target=0.3 * head_full)
    assert cost.total(keep) <= 0.4 * full
    assert cost.of_head(rows).total(keep) <= 0.3 * head_full
    unlimited = allocate_apart(allocate, problem(slots, cost, 0.7 * full), head_rows=rows, head_target=head_full)
    assert unlimited[2] == 32


def test_schedules() -> None:
    """Both end at the whole ratio; the geometric one removes the same share of what is left."""
    linear = [scheduled(0.75, i, 2, "linear") for i in range(2)]
    geometric = [scheduled(0.75, i, 2, "geometric") for i in range(2)]
    assert linear == [0.375, 0.75]
    assert geometric == pytest.approx([0.5, 0.75])


@pytest.mark.parametrize("what", ["MACs", "parameters"])
def test_cost_model_agrees_with_the_fused_graph(what: str, untrained: Callable[[str], Path]) -> None:
    """MACs and parameters of the cost model are those counted on the fused graph, the DFL's constants aside."""
    path = untrained("yolov8n")
    model = checkpoint.load(path).model
    graph, slots = slots_of(path, PruneConfig())
    exported = exported_layers(model, end2end=False)
    got = make_cost_model(graph, slots, exported.__contains__, Goal(removed=0.5, what=what)).total(widths_of(slots))
    size = measure(model, 64)
    assert got == pytest.approx(size.macs if what == "MACs" else size.params, rel=2e-3)


def test_floors_and_protected_layers(untrained: Callable[[str], Path]) -> None:
    """min_share raises floors; protected layers and what is coupled to them keep their width, others don't."""
    path = untrained("yolov8n")
    free, shared, closed = (
        {slot.name: slot for slot in slots_of(path, config)[1]}
        for config in (
            PruneConfig(),
            PruneConfig(min_share=0.5),
            PruneConfig(protect=["model.4.*.cv1.conv", "model.0"]),
        )
    )
    assert free["model.1.conv"].floor == 8
    assert shared["model.1.conv"].floor == 16
    assert closed["model.4.m.0.cv1.conv"].floor == closed["model.4.m.0.cv1.conv"].width
    assert closed["model.0.conv"].floor == closed["model.0.conv"].width
    assert closed["model.1.conv"].floor == 8


def test_unknown_protected_layers_are_named(untrained: Callable[[str], Path]) -> None:
    """A pattern that fits nothing is an error with the nearest name."""
    with pytest.raises(SlimError, match=r"model\.2\.cv9: no such layer\. Did you mean 'model\.\d\.cv"):
        slots_of(untrained("yolov8n"), PruneConfig(protect=["model.0.conv", "model.2.cv9"]))


def test_unreachable_target_names_the_floors() -> None:
    """A budget below the floors is refused with the layers that hit theirs."""
    slots, cost = chain([16, 16], [[1.0] * 16, [9.0] * 16], floor=8)
    with pytest.raises(SlimError, match="below their floor") as caught:
        allocate_global(problem(slots, cost, 10), per_mac=0.5)
    assert "conv0 (16 channels, floor 8)" in str(caught.value)


def test_unreachable_share_names_its_setting() -> None:
    """A share that the head can't reach names the head's setting; where nothing can go, no lower share is advised."""
    slots, cost = chain([16, 16], [[1.0] * 16] * 2, floor=8)
    head = cost.of_head(np.array([False, True]))
    with pytest.raises(SlimError) as caught:
        allocate_global(problem(slots, head, 0.1 * head.total(widths_of(slots))), per_mac=0)
    assert "of the head's MACs" in caught.value.fact
    assert caught.value.remedy.startswith("Set prune.head_removed below 0.75, or ")
    protected = [replace(slot, floor=slot.width) for slot in slots]
    with pytest.raises(SlimError) as caught:
        allocate_global(problem(protected, cost, 10), per_mac=0)
    assert "protect less (prune.protect)" in caught.value.remedy
    assert "below 0.00" not in caught.value.remedy


def test_remedy_names_the_setting_that_asked() -> None:
    """A budget of parameters or of a file's size is corrected by its own setting, in its own unit."""
    slots, cost = chain([16, 16], [[1.0] * 16] * 2, floor=8)
    size = Goal(removed=0.9, setting="prune.max_size_mb", limit=lambda most: f"above {4 * (1 - most):.1f}")
    with pytest.raises(SlimError) as caught:
        allocate_global(problem(slots, replace(cost, goal=size), 10), per_mac=0)
    assert caught.value.remedy.startswith("Set prune.max_size_mb above 1.2, or lower prune.min_width")


def test_head_rate_is_named_where_it_limits_the_budget() -> None:
    """Under one share for all, a head that gives up half as much ends above its floor, and the error says by what."""
    slots, cost = chain([16, 64], [[1.0] * 16, [1.0] * 64], floor=8)
    slots[1] = replace(slots[1], head=True)
    for rate, named in ((0.5, True), (1.0, False)):
        with pytest.raises(SlimError) as caught:
            allocate_uniform(problem(slots, cost, 1), lambda slot, own=rate: own if slot.head else 1.0)
        assert caught.value.remedy.endswith(", or raise prune.head_rate.") is named


def test_budget_that_needs_the_head() -> None:
    """Where a closed head alone is in the way, the error names its setting and how far the network gets either way."""
    slots, cost = chain([16, 64], [[1.0] * 16, [1.0] * 64], floor=8)
    slots[1] = replace(slots[1], head=True, floor=64, least=8)
    full = cost.total(widths_of(slots))
    with pytest.raises(SlimError, match="can't be reached without pruning the head further") as caught:
        allocate_global(problem(slots, cost, 0.3 * full), per_mac=0)
    assert "Removing 70%" in str(caught.value)
    assert "(prune.head_rate)" in str(caught.value)
    assert "50% can go" in str(caught.value)
    assert "92% with the head at its floor too" in str(caught.value)


def test_head_with_a_ratio_that_is_too_low_is_named(untrained: Callable[[str], Path]) -> None:
    """A head with a ratio of its own has the floor that it would have without, which the error counts with."""
    _, slots = slots_of(untrained("yolov8n"), PruneConfig(head_removed=0.1))
    head = [slot for slot in slots if slot.head and slot.floor < slot.width]
    assert head
    assert all(slot.least == slot.floor for slot in head)
    assert not any(slot.least for slot in slots_of(untrained("yolov8n"), PruneConfig())[1])
    chained, cost = chain([16, 64], [[1.0] * 16, [1.0] * 64], floor=8)
    chained[1] = replace(chained[1], head=True, least=8)
    wanted = problem(chained, cost, 0.3 * cost.total(widths_of(chained)))
    with pytest.raises(SlimError, match=r"without pruning the head further \(prune\.head_removed\)") as caught:
        allocate_global(replace(wanted, start=np.array([16, 64]), free=np.array([True, False])), per_mac=0)
    assert caught.value.remedy.endswith("or raise prune.head_removed.")


def test_head_rate_beside_a_table_is_refused() -> None:
    """Scope block_costs prices the head by its table, so a head rate that would change nothing is an error."""
    given = {"scope": "block_costs", "block_costs": "costs.json"}
    with pytest.raises(SlimError, match=r"block_costs conflicts with head_rate 0\.5; leave head_rate out"):
        parse(PruneConfig, {**given, "head_rate": 0.5}, "settings")
    for allowed in ({}, {"head_rate": 0.0}, {"head_rate": 0.8}):
        assert parse(PruneConfig, {**given, **allowed}, "settings").scope == "block_costs"
    assert parse(PruneConfig, {"head_rate": 0.5}, "settings").head_rate == 0.5


def test_one_budget_decides() -> None:
    """Another budget takes the default's place; two at once, and none, are refused."""
    assert PruneConfig(params_removed=0.3).budget == ("params_removed", 0.3)
    stored = PruneConfig(max_size_mb=3.0).model_dump()
    assert PruneConfig.model_validate(stored).budget == ("max_size_mb", 3.0)
    with pytest.raises(SlimError, match="params_removed: conflicts with macs_removed; set only one budget"):
        parse(PruneConfig, {"macs_removed": 0.5, "params_removed": 0.3}, "settings")
    with pytest.raises(SlimError, match="no budget is set; set one of macs_removed, params_removed, max_size_mb"):
        parse(PruneConfig, {"macs_removed": None}, "settings")


def test_block_costs_decide_what_is_cut() -> None:
    """With equal scores the block that costs less mAP per millisecond is cut; with swapped costs the other one is."""
    slots, cost = chain([32, 32, 32], [[1.0] * 32] * 3, floor=8)

    def cut(costs: tuple[float, float, float]) -> list[float]:
        rows = tuple(BlockCost(name=f"conv{i}", map_cost=c, ms_gain=1.0) for i, c in enumerate(costs))
        guide = BlockCosts(model_sha256="0", removed=0.5, blocks=rows)
        priced = [
            replace(slot, unit_scores=slot.unit_scores * factor)
            for slot, factor in zip(slots, prices(slots, cost, guide), strict=True)
        ]
        target = 0.8 * cost.total(widths_of(slots))
        return allocate_global(problem(priced, cost, target), per_mac=1, value=cost).tolist()

    assert cut((0.5, 0.001, 0.5))[1] < 32
    assert cut((0.001, 0.5, 0.5))[1] == 32


def test_a_gain_lost_in_scatter_is_no_gain() -> None:
    """A block whose rounds disagree on a gain is priced by its MACs at the others' gain; one that agrees, as it is."""
    slots, cost = chain([32, 32, 32], [[1.0] * 32] * 3, floor=8)

    def priced(gain: float, rounds: list[float]) -> list[float]:
        round_ms = RoundMs(control=tuple(rounds), cut=(0.0,) * len(rounds)) if rounds else None
        noisy = BlockCost(name="conv1", map_cost=0.1, ms_gain=gain, round_ms=round_ms)
        others = (BlockCost(name=f"conv{i}", map_cost=0.1, ms_gain=1.0) for i in (0, 2))
        guide = BlockCosts(model_sha256="0", removed=0.5, blocks=(noisy, *others))
        return prices(slots, cost, guide).tolist()

    usual = priced(-0.2, [])
    assert priced(5.0, [-30.0, -1.0, 5.0, 20.0, 40.0]) == usual
    assert priced(5.0, [4.0, 5.0, 5.0, 6.0, -1.0]) == priced(5.0, []) != usual
    assert priced(5.0, [])[1] < usual[1]


def test_bad_block_costs(tmp_path: Path) -> None:
    """Wrong values are all named, and so are a table of another model and layers without a row."""
    path = tmp_path / "block_costs.json"
    row = {"name": "conv0", "map_cost": 0.1, "ms_gain": 0.2}
    head = {"schema": 1, "kind": "block_costs", "model_sha256": "a" * 64, "removed": 0.5}
    write_json(path, {**head, "blocks": [row]})
    good = load_block_costs(path, "a" * 64, 64)
    assert good == BlockCosts(model_sha256="a" * 64, removed=0.5, blocks=(BlockCost(**row),))
    with pytest.raises(SlimError, match="another model"):
        load_block_costs(path, "b" * 64, 64)
    write_json(path, {**head, "blocks": [row], "imgsz": 640, "runtime": "ncnn fp16", "target": "rpi5"})
    assert load_block_costs(path, "a" * 64, 640).measured_on == "ncnn fp16 for rpi5"
    with pytest.raises(SlimError, match="measured at 640 px, not at 64"):
        load_block_costs(path, "a" * 64, 64)
    slots, cost = chain([16, 16], [[1.0] * 16] * 2, floor=8)
    with pytest.raises(SlimError, match="no row for some layers") as missing:
        prices(slots, cost, good)
    assert missing.value.culprits == ("conv1",)
    path.write_text('{"schema": 2, "kind": "block_costs", "removed": 2, "blocks": [{"name": "x", "map_cost": "low"}]}')
    with pytest.raises(SlimError) as wrong:
        load_block_costs(path, "a" * 64, 64)
    assert len(wrong.value.culprits) == 5
    for rounds in ([1, 2], {"control": [1.0]}, {"control": [1.0], "cut": [1.0, 2.0]}, {"control": ["1"], "cut": ["2"]}):
        write_json(path, {**head, "blocks": [{**row, "round_ms": rounds}]})
        with pytest.raises(SlimError, match=r"blocks\[0\]\.round_ms \(conv0\): expected control and cut"):
            load_block_costs(path, "a" * 64, 64)


def test_slots_keep_their_names_in_later_steps(untrained: Callable[[str], Path]) -> None:
    """A slot is known by its name from step to step, which min_share and the table of block costs rely on."""
    model = checkpoint.load(untrained("yolo11n")).model
    names = slot_widths(slots_of(untrained("yolo11n"), PruneConfig())[1]).keys()
    apply_plan(model, random_plan(model, seed=1))
    graph = trace_channels(model, 64)
    terms = make_terms(model, graph, PruneConfig(), exported_layers(model, end2end=False), {})
    assert slot_widths(decide_unscored(graph, terms)).keys() == names


def test_odd_steps_are_not_undone_alone() -> None:
    """A first step that only made a width a multiple isn't undone alone: 20 -> 16 -> 8 gives 8 or 16, never 12."""
    cost = CostModel(
        reads=np.zeros((2, 2)), writes=np.eye(2) / [20, 64], reads_fixed=np.array([20.0, 64.0]), unit=np.ones(2),
        per_output=None, goal=GOAL,
    )  # fmt: skip
    keep = np.array([8.0, 56.0])
    target = cost.total(np.array([12.0, 56.0]))
    taken = [(0, 4.0), (1, 8.0), (0, 8.0)]
    found = undo_needless_steps(problem([], cost, target), keep, taken)
    assert found.tolist() == [8.0, 56.0]
    looser = undo_needless_steps(problem([], cost, cost.total(np.array([16.0, 56.0]))), keep, taken)
    assert looser.tolist() == [16.0, 56.0]
