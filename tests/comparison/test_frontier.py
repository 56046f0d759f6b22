"""Verdicts: won, lost and undecided as a person would say, also where pruning loses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from yolo_slim.comparison.frontier import (
    FEW_SEEDS,
    FEWEST_ROUNDS,
    NOT_TIMED,
    Judgement,
    Point,
    around,
    interpolated,
    judge,
    judge_all,
    on_frontier,
    overall,
    speed_order,
    verdict_text,
)


def point(
    method: str, maps: tuple[float, ...], ms: float | tuple[float, ...], *, size: str = "", reference: bool = False
) -> Point:
    """Return a point; one latency stands for five rounds of it, two accuracies for the ends of three."""
    if len(maps) == 2:
        maps = (maps[0], sum(maps) / 2, maps[1])
    rounds = ms if isinstance(ms, tuple) else (ms,) * FEWEST_ROUNDS
    return Point(method=method, size=size, maps=maps, rounds_ms=rounds, reference=reference, exact=reference)


OURS = point("ours", (0.50, 0.51, 0.52), 5.0)


@pytest.mark.parametrize(
    ("maps", "ms", "status"),
    [
        ((0.48, 0.49, 0.495), 5.0, "won"),
        ((0.48, 0.49, 0.495), 6.0, "won"),
        ((0.48, 0.49, 0.495), 4.0, "undecided"),
        ((0.53, 0.54, 0.55), 5.0, "lost"),
        ((0.53, 0.54, 0.55), 4.0, "lost"),
        ((0.53, 0.54, 0.55), 6.0, "undecided"),
        ((0.49, 0.505), 5.0, "undecided"),
        ((0.49, 0.505), 6.0, "undecided"),
    ],
)
def test_one_rival(maps: tuple[float, ...], ms: float, status: str) -> None:
    """A win needs a rival that is no faster, a loss one that is no slower, and both ranges that don't touch."""
    assert judge([OURS], point("rival", maps, ms)).status == status


def test_untrained_cuts_have_little_to_post_process() -> None:
    """Where an untrained cut was timed, post-processing is left out of all: an untrained cut finds few objects."""
    ours = replace(point("ours", (0.50, 0.51), 10.0), network_ms=(9.0,) * FEWEST_ROUNDS)
    rival = replace(point("rival", (0.40, 0.41), 9.4), network_ms=(9.05,) * FEWEST_ROUNDS, untrained=True)
    for own in (ours, replace(ours, untrained=True)):
        found = judge([own], rival)
        assert (found.status, NOT_TIMED in found.reason) == ("won", True)
    found = judge([ours], replace(rival, untrained=False))
    assert (found.status, NOT_TIMED in found.reason) == ("undecided", False)


def test_touching_ranges_are_undecided() -> None:
    """Negative control: equal best and worst seeds aren't a difference."""
    assert judge([OURS], point("rival", (0.40, 0.50), 5.0)).status == "undecided"
    assert judge([OURS], point("rival", (0.40, 0.4999), 5.0)).status == "won"


def test_speeds_are_compared_round_by_round() -> None:
    """A machine that gets slower hides no difference, and one disturbed round of five neither makes nor hides one."""
    drifting = point("ours", (0.50, 0.51), (5.0, 6.0, 7.0, 8.0, 9.0))
    better = (0.60, 0.61)
    assert judge([drifting], point("rival", better, (5.5, 6.6, 7.7, 8.8, 9.9))).status == "undecided"
    assert judge([drifting], point("rival", better, (5.5, 6.6, 7.7, 8.8, 4.0))).status == "undecided"
    assert judge([drifting], point("rival", better, (4.5, 5.4, 6.3, 7.2, 99.0))).status == "lost"


def test_equally_fast() -> None:
    """Rounds that disagree a little, and differences of at most 2 %, are no difference of speed; no proof isn't one."""
    ours = point("ours", (0.50, 0.51), 5.0)
    level = ((4.8, 4.8, 5.0, 5.2, 5.2), (5.05, 5.05, 5.06, 5.08, 5.09), (4.95, 4.95, 4.94, 4.92, 4.91))
    for rounds in level:
        assert speed_order(ours, point("rival", (0.6,), rounds)) == 0
    assert speed_order(ours, point("rival", (0.6,), 5.2)) == 1
    assert speed_order(ours, point("rival", (0.6,), (4.6, 4.65, 4.8, 5.005, 5.05))) is None
    assert speed_order(ours, point("rival", (0.6,), 4.0)) == -1


def test_disturbed_rounds_say_nothing() -> None:
    """A machine that disturbs most rounds shows no equal speed, so nothing is won on it; clear differences it does."""
    ours = point("ours", (0.50, 0.51), 5.0)
    for rounds in ((4.0, 4.5, 5.0, 5.6, 6.0), (3.0, 4.5, 5.1, 5.6, 9.0), (4.4, 4.4, 5.05, 5.1, 5.1)):
        rival = point("rival", (0.1, 0.2), rounds)
        assert speed_order(ours, rival) is None
        found = judge([ours], rival)
        assert (found.status, "scatter too much" in found.reason) == ("undecided", True)
    assert judge([ours], point("rival", (0.1, 0.2), (6.0, 7.0, 7.5, 8.0, 9.0))).status == "won"
    assert judge([ours], point("control", (0.1,), (3.0, 4.5, 5.1, 5.6, 9.0), reference=True)).status == "reference"


def test_few_rounds_say_nothing_of_speed() -> None:
    """Below five rounds one that was disturbed could decide, so nothing is won or lost on them."""
    for ours, other in (((10.0, 10.0), (9.9, 14.0)), ((10.0, 14.0), (10.0, 10.0)), ((5.0,) * 4, (9.0,) * 4)):
        found = judge([point("ours", (0.50, 0.51), ours)], point("rival", (0.10, 0.11), other))
        assert (found.status, "fewer than 5 rounds" in found.reason) == ("undecided", True)
        assert judge([point("ours", (0.10, 0.11), ours)], point("rival", (0.50, 0.51), other)).status == "undecided"
    assert judge([point("ours", (0.50, 0.51), 5.0)], point("rival", (0.10, 0.11), 9.0)).status == "won"


def test_few_seeds_are_never_a_win() -> None:
    """One seed has no spread, and two have one by chance, however large the difference, on either side."""
    three, two = point("ours", (0.9, 0.8, 0.85), 5.0), replace(OURS, maps=(0.9, 0.8))
    for ours, other in ((two, (0.1, 0.2, 0.3)), (three, (0.1,)), (replace(two, maps=(0.1,)), (0.9,))):
        found = judge([ours], point("rival", other, 5.0))
        assert (found.status, FEW_SEEDS in found.reason) == ("undecided", True)
    assert judge([three], replace(two, method="rival", maps=(0.1, 0.2))).status == "undecided"
    assert judge([three], point("rival", (0.1, 0.2, 0.3), 5.0)).status == "won"


def test_between_two_sizes() -> None:
    """A rival between two of our sizes is compared with the line between them, seed by seed."""
    sizes = [point("ours", (0.40, 0.42), 4.0, size="-60 %"), point("ours", (0.60, 0.62), 8.0, size="-40 %")]
    assert around(sizes, 6.0) == (sizes[0], sizes[1])
    assert interpolated(*sizes, 6.0) == pytest.approx((0.50, 0.51, 0.52))
    assert around(sizes, 9.0) is None
    assert judge(sizes, point("rival", (0.45, 0.49), 6.0)).status == "won"
    assert judge(sizes, point("rival", (0.53, 0.55), 6.0)).status == "lost"
    assert judge(sizes, point("rival", (0.51, 0.55), 6.0)).status == "undecided"


def test_no_seed_drops_out_between_two_sizes() -> None:
    """Where the sizes have unlike numbers of seeds, the worst seed still decides."""
    four = (0.50, 0.504, 0.506, 0.51)
    sizes = [point("ours", four, 4.0, size="-70 %"), point("ours", (0.60, 0.61, 0.40), 8.0, size="-50 %")]
    assert interpolated(*sizes, 6.0) == pytest.approx((0.45, 0.56))
    assert judge(sizes, point("rival", (0.505, 0.51), 6.0)).status == "undecided"


def test_other_sizes_leave_the_line_between_two_alone() -> None:
    """What is known of two sizes doesn't depend on a third one with a single seed."""
    sizes = [point("ours", (0.40, 0.42), 4.0, size="-60 %"), point("ours", (0.60, 0.62), 8.0, size="-40 %")]
    sizes.append(point("ours", (0.65,), 12.0, size="-30 %"))
    assert judge(sizes, point("rival", (0.45, 0.49), 6.0)).status == "won"
    assert judge([replace(sizes[0], maps=(0.41,)), *sizes[1:]], point("rival", (0.45, 0.49), 6.0)).status == "undecided"


@pytest.mark.parametrize("ms", [5.08, 4.0])
def test_a_size_that_is_not_beaten_undoes_a_loss(ms: float) -> None:
    """Pruning hasn't lost to a rival that beats one size, while another one is no slower and overlaps with it."""
    beaten = point("ours", (0.480, 0.490), 5.0, size="-55 %")
    rival = point("rival", (0.500, 0.515), 5.0)
    assert judge([beaten], rival).status == "lost"
    assert judge([beaten, point("ours", (0.500, 0.530), ms, size="-50 %")], rival).status == "undecided"
    assert judge([beaten, point("ours", (0.470, 0.485), ms, size="-50 %")], rival).status == "lost"


def test_a_size_of_unknown_speed_undoes_a_loss() -> None:
    """A more accurate size that may be as fast isn't beaten by a rival that beats another one; a beaten one is."""
    beaten, rival = point("ours", (0.50, 0.52), 10.0, size="-50 %"), point("rival", (0.56, 0.58), 10.0)
    scattered = point("ours", (0.60, 0.62), (8.5, 12.0, 9.0, 13.0, 10.3), size="-30 %")
    assert speed_order(scattered, rival) is None
    found = judge([beaten, scattered], rival)
    assert (found.status, "scatter too much" in found.reason) == ("undecided", True)
    assert judge([beaten, replace(scattered, maps=(0.50, 0.51, 0.52))], rival).status == "lost"


def test_a_size_without_spread_undoes_no_win() -> None:
    """A size with several seeds that is faster and better wins, though another size has one seed or scatters."""
    fast, rival = point("ours", (0.50, 0.51), 5.0, size="-50 %"), point("rival", (0.40, 0.41), 6.0)
    slow = point("ours", (0.56,), 8.0, size="-30 %")
    assert judge([fast, slow], rival).status == "won"
    assert "ours -50 % is faster" in judge([fast, slow], rival).reason
    scattered = replace(slow, rounds_ms=(4.0, 4.0, 6.0, 9.0, 9.0))
    assert speed_order(scattered, rival) is None
    assert judge([fast, scattered], rival).status == "won"
    assert judge([replace(fast, maps=(0.50,)), slow], rival).status == "undecided"
    assert judge([fast, slow], replace(rival, maps=(0.40, 0.505))).status == "undecided"


def test_references_lose_or_say_nothing() -> None:
    """A control that is slower proves nothing; one that is no slower and more accurate means that pruning lost."""
    slow = point("control", (0.6,), 9.0, reference=True)
    level = point("control", (0.6,), 5.0, reference=True)
    worse = point("control", (0.3,), 9.0, reference=True)
    assert [judge([OURS], other).status for other in (slow, level, worse)] == ["reference", "lost", "reference"]


def test_without_timing() -> None:
    """Nothing is claimed of a method whose timing doesn't count."""
    assert judge([OURS], point("rival", (0.1, 0.2), ())).status == "undecided"
    assert judge([point("ours", (0.9, 0.8), ())], point("rival", (0.1, 0.2), 5.0)).status == "undecided"


def test_overall() -> None:
    """One loss is a loss, whatever else was won; the words say so."""
    won, lost = point("random", (0.1, 0.2), 5.0), point("small-input", (0.6, 0.7), 5.0)
    control = point("control", (0.9,), 9.0, reference=True)
    judgements = judge_all([OURS, won, lost, control])
    assert overall(judgements) == "lost"
    text = verdict_text("lost", judgements)
    assert "Pruning lost: small-input is more accurate and no slower" in text
    assert "It won against random." in text
    assert overall(judge_all([OURS, won, control])) == "won"
    assert overall(judge_all([OURS, control])) == "undecided"
    missing = Judgement(method="narrow", size="", status="undecided", reason="not measured: it failed.")
    judgements = judge_all([OURS, won, control], [missing])
    assert overall(judgements) == "undecided"
    assert "It won against random. Undecided against narrow." in verdict_text("undecided", judgements)


def test_frontier() -> None:
    """On the frontier is what nothing else beats in both; equals stay together, the untimed are off it."""
    points = [
        point("a", (0.5,), 5.0),
        point("b", (0.4,), 6.0),
        point("c", (0.6,), 7.0),
        point("d", (0.5,), 5.0),
        point("e", (0.9,), ()),
    ]
    assert on_frontier(points) == [True, False, True, True, False]
