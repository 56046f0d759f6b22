"""From measured networks to the result: statuses, notes and judgements, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.comparisons import TRAINING, about, network, score
from yolo_slim.comparison.networks import Cell, Network, representatives
from yolo_slim.comparison.result import CompareResult
from yolo_slim.comparison.summary import summarize
from yolo_slim.comparison.text import rows


def summary(*networks: Network, distill: float = 0.0) -> CompareResult:
    """Return the result of networks, untimed, in the runtimes of the last one, which is the control."""
    return summarize(about(*networks[-1].bundles, distill=distill), networks, {})


def missing(method: str, reason: str, seed: int = 0, *, failed: bool = False) -> Network:
    """Return a network that couldn't be had."""
    return Network.missing(Cell(method=method, removed=0.5, seed=seed), reason, failed=failed)


CONTROL = network("control", maps={"r": 0.6})


def test_impossible_method_is_a_row() -> None:
    """A method that can't be made has a row with its reason and stops no other method."""
    ours = network("ours", maps={"r": 0.5})
    found = summary(ours, missing("small-input", "no side fits."), CONTROL)
    assert [entry.status for entry in found.methods] == ["measured", "not possible", "measured"]
    assert not [note for note in found.notes if note.startswith("Trained without distillation")]
    assert "small-input was not possible: no side fits." in found.notes
    assert found.verdict.status == "undecided"
    assert found.methods[0].runtimes["r"].bench is None


def test_who_is_not_distilled_is_named() -> None:
    """Methods that begin as the control are named where the others are distilled from it."""
    found = summary(network("ours", maps={"r": 0.5}), network("small-input", maps={"r": 0.5}), CONTROL, distill=3.0)
    assert "Trained without distillation, because they begin as the control: small-input." in found.notes


def test_failed_rival_leaves_the_verdict_open() -> None:
    """A rival that exists but couldn't be measured, or not in this runtime, isn't beaten; what can't exist is none."""
    networks = [
        network("ours", maps={"r": 0.5}),
        missing("uniform-l2", "too slow.", failed=True),
        missing("narrow", "no such width."),
        network("random", maps={"r": 0.5}, scores={}),
    ]
    found = summary(*networks, CONTROL)
    assert [entry.status for entry in found.methods[1:4]] == ["failed", "not possible", "measured"]
    judged = {judgement.method: judgement for judgement in found.judgements["r"].methods}
    assert set(judged) == {"uniform-l2", "random", "control"}
    assert judged["uniform-l2"].reason == "not measured: too slow."
    assert judged["random"].reason == "not measured: it has no accuracy in this runtime"
    assert "uniform-l2 could not be measured: too slow." in found.notes
    assert "narrow was not possible: no such width." in found.notes


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_seed_that_failed_is_named(order: tuple[int, int]) -> None:
    """A seed without a network leaves the others of its method in the table, whichever comes first."""
    good, bad = network("random", seed=order[0], maps={"r": 0.5}), missing("random", "missed the MACs.", order[1])
    ordered = sorted([good, bad], key=lambda one: one.cell.seed)
    found = summary(network("ours", maps={"r": 0.5}), *ordered, CONTROL)
    entry = found.methods[1]
    assert entry.status == "measured"
    assert [seed.seed for seed in entry.seeds] == [order[0]]
    assert f"random could not be measured with seed {order[1]}: missed the MACs." in found.notes


def test_a_trained_network_is_timed() -> None:
    """Of networks of one shape the one that was trained here stands for all."""
    networks = [network("ours", seed=seed, maps={"r": 0.5}, widths=(8,), imported=seed != 1) for seed in range(3)]
    assert [one.cell.seed for one in representatives(networks)] == [1]


def test_differences_of_training_are_noted() -> None:
    """Precision, cuts and missing runtimes of imported networks are in the notes and the figures."""
    common = {"bundles": dict.fromkeys("rsq", Path("b"))}
    mixed = replace(TRAINING, mixed_precision=True)
    imported = {"made": mixed, "imported": True, "trained_macs": 49}
    found = summary(
        network("ours", maps={"r": 0.4, "s": 0.4}, made=TRAINING, **common),
        network("ours", seed=1, maps={"r": 0.5}, **imported, **common),
        network("control", maps={"r": 0.4, "s": 0.4, "q": 0.4}),
    )
    maps = {key: figures.map50_95 for key, figures in found.methods[0].runtimes.items()}
    assert {key: one and one.seeds for key, one in maps.items()} == {"r": 2, "s": 1, "q": None}
    assert "unproven" in rows(found, "q")[0]
    notes = " ".join(found.notes)
    assert "No accuracy in q, because the comparison that trained them didn't build it: ours." in notes
    assert "No accuracy in s" not in notes
    assert "mixed precision. off: ours -50 % seed 0; on: ours -50 % seed 1." in notes
    assert "ours -50 % seed 1 was trained with 49 MACs; its cut here has 50." in notes
    assert "alike in machine" not in notes


def test_random_is_cut_anew_for_each_seed() -> None:
    """A seed's cut is compared with what was trained by that seed, not with another seed's cut."""
    macs = {0: (48, 48), 1: (52, 52), 2: (50, 49)}
    networks = [
        network("random", seed=seed, maps={"r": 0.5}, made=TRAINING, imported=True, macs=cut, trained_macs=trained)
        for seed, (cut, trained) in macs.items()
    ]
    notes = [note for note in summary(*networks, CONTROL).notes if "its cut here has" in note]
    assert notes == ["random -50 % seed 2 was trained with 49 MACs; its cut here has 50."]


def test_scores_are_of_the_seeds() -> None:
    """Mean and range over the seeds of one method."""
    networks = [network("ours", seed=seed, maps={"r": found}) for seed, found in enumerate((0.2, 0.4))]
    found = summary(*networks, CONTROL).methods[0].runtimes["r"].map50_95
    assert found is not None
    assert (found.mean, found.lowest, found.highest, found.seeds) == (pytest.approx(0.3), 0.2, 0.4, 2)
    assert networks[0].scores["r"] == score(0.2)
