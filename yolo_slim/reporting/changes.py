"""Figures before and after: the tiles at the top of the page and its table of sizes. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yolo_slim.build_key import BuildKey
from yolo_slim.devices.answers import Bench
from yolo_slim.reporting import facts
from yolo_slim.reporting.text import UNPROVEN, speed_machine
from yolo_slim.verdict.result import NetworkSize, Result


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure before and after."""

    name: str
    before: str
    after: str
    change: str
    """The difference, as a ratio, a percentage or a number with its sign."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit with the number of base units in it."""

    word: str
    of: float


MB, GIGA, MILLION = Unit(word="MB", of=1), Unit(word="G", of=1e9), Unit(word="M", of=1e6)


def tiles(result: Result) -> list[Change]:
    """The four figures at the top of the page."""
    macs = _compared("MACs", result, lambda size: size.macs, GIGA, "multiply-accumulates")
    return [_speed(result), _accuracy(result), _file(result), macs]


def sizes(result: Result) -> list[Change]:
    """Parameters, MACs, and the model files of every build."""
    rows = [
        _compared("parameters", result, lambda size: size.params, MILLION),
        _compared("MACs (multiply-accumulates per frame)", result, lambda size: size.macs, GIGA),
    ]
    size_mb = {build.key: build.size_mb for build in result.builds}
    for build in dict.fromkeys(key.build for key in size_mb):
        before, after = size_mb.get(BuildKey("control", build)), size_mb.get(BuildKey("slim", build))
        rows.append(_ratio(f"model file, {build.runtime} {build.precision}", before, after, MB))
    return rows


def _speed(result: Result) -> Change:
    """The winner's frames per second against its control's, unproven without a timing that counts."""
    best = result.best
    control = result.partner(best)
    after, before = best.valid_bench if best else None, control.valid_bench if control else None
    if best is None or after is None:
        why = facts.timing_remark(best) if best else "no build won"
        return Change(name="FPS", before=_fps(before), after=UNPROVEN, change="", note=why)
    gain = result.speedup(best)
    # The ratio of the rounds comes first: a machine that slows down between two timings doesn't disturb it.
    ratio = gain.ratio if gain else after.fps / before.fps if before else None
    note = "end to end: pre + infer + post, median"
    if not result.target.is_measured:
        note = f"on {speed_machine(result)}; unproven on {result.target.name}"
    change = f"× {ratio:.2f}" if ratio and before else ""
    return Change(name="FPS", before=_fps(before), after=_fps(after), change=change, note=note)


def _fps(bench: Bench | None) -> str:
    return facts.number(bench.fps if bench else None, ".1f", UNPROVEN)


def _accuracy(result: Result) -> Change:
    """mAP50-95 of the slim rung against the control."""
    before, after = result.control_rung, result.slim_rung
    return Change(
        name="mAP50-95",
        before=facts.number(before.map50_95 if before else None),
        after=facts.number(after.map50_95 if after else None),
        change=facts.signed(after.map50_95 - before.map50_95) if before and after else "",
        note=after.label if after else "",
    )


def _file(result: Result) -> Change:
    """Size of the winner's model files against its control's."""
    best, control = result.best, result.partner(result.best)
    if best is None:
        return Change(name="model file", before="", after=UNPROVEN, change="", note="no build won")
    note = f"{best.key.build.runtime} {best.key.build.precision}"
    return _ratio("model file", control.size_mb if control else None, best.size_mb, MB, note)


def _compared(name: str, result: Result, figure: Callable[[NetworkSize], float], unit: Unit, note: str = "") -> Change:
    return _ratio(name, figure(result.size.control), figure(result.size.slim), unit, note)


def _ratio(name: str, before: float | None, after: float | None, unit: Unit, note: str = "") -> Change:
    """A figure in a unit, with the relative change."""
    change = facts.signed((after / before - 1) * 100, "+.1f") + " %" if before and after is not None else ""
    return Change(name=name, before=_in(unit, before), after=_in(unit, after), change=change, note=note)


def _in(unit: Unit, value: float | None) -> str:
    return facts.NOT_MEASURED if value is None else f"{facts.number(value / unit.of, '.2f')} {unit.word}"
