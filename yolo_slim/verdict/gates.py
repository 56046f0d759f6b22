"""From measurements to a verdict: pass, fail or unproven. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from yolo_slim.config.profile import Budget, RungBudgets


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One limit with what was measured."""

    name: str
    limit: float
    value: float | None
    """None: not measured."""
    unit: str
    status: str
    """``pass``, ``fail`` or ``unproven``."""
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        return asdict(self)


def gate(name: str, limit: float, value: float | None, unit: str, *, least: bool = False, missing: str = "") -> Gate:
    """Compare a value with its largest (or ``least``) allowed; ``missing`` says why there is none."""
    if value is None:
        return Gate(name=name, limit=limit, value=None, unit=unit, status="unproven", reason=missing)
    ok = value >= limit if least else value <= limit
    word = "at least" if least else "at most"
    reason = "" if ok else f"{value:.4g} {unit}, {word} {limit:.4g} allowed: off by {abs(value - limit):.3g}"
    return Gate(name=name, limit=limit, value=value, unit=unit, status="pass" if ok else "fail", reason=reason)


def rung_gates(ladder: Iterable[Mapping[str, Any]], others: Collection[str] = ()) -> list[Gate]:
    """Return the gates of a ladder's rungs that have a budget, without those of ``others``, builds that didn't win."""
    return [
        gate(f"rung:{rung['rung']}", rung["budget"], rung["drop"], "mAP50-95 drop")
        for rung in ladder
        if rung["budget"] is not None and rung["rung"] not in others
    ]


def worst_class(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> dict[str, Any] | None:
    """Return the class that lost most AP50-95 and how much, None where no class is in both."""
    drops = {name: before[name]["ap50_95"] - after[name]["ap50_95"] for name in before if name in after}
    if not drops:
        return None
    name = max(drops, key=lambda key: drops[key])
    return {"name": name, "drop": drops[name]}


def rung_budget(rung: str, budgets: RungBudgets) -> float | None:
    """Return the largest drop of a rung, by its name or by its bundle's precision."""
    return {**budgets.model_dump()}.get(rung.rsplit("-", 1)[-1])


def device_gates(budget: Budget, build: Mapping[str, Any] | None, drop: float | None, missing: str) -> list[Gate]:
    """Return the gates of a profile for its winning build; ``missing`` (if not empty) says why speed isn't proven."""
    timing = build["bench"] if build and not missing else None
    if timing and not timing["valid"]:
        missing = f"the timing is invalid: {'; '.join(timing['invalid_reasons'])}"
        timing = None
    fps = timing["fps"] if timing else None
    memory = timing["peak_memory_mb"] if timing else None
    total = timing["stages"]["total"] if timing else {}
    nothing = "no build is inside the accuracy budget"
    why = missing or nothing
    rows = [
        ("min_fps", budget.min_fps, fps, "FPS", True, why),
        ("max_p99_ms", budget.max_p99_ms, total.get("p99_ms"), "ms", False, why),
        ("max_memory_mb", budget.max_memory_mb, memory, "MB", False, why),
        ("max_size_mb", budget.max_size_mb, build["size_mb"] if build else None, "MB", False, nothing),
        ("max_map50_95_drop", budget.max_map50_95_drop, drop, "mAP50-95", False, nothing),
    ]
    return [
        gate(name, limit, value, unit, least=least, missing=reason)
        for name, limit, value, unit, least, reason in rows
        if limit is not None
    ]


def verdict(gates: Iterable[Gate], *, proven: bool) -> str:
    """Return ``fail`` if any gate failed, ``unproven`` if one is or the device is absent, else ``pass``."""
    statuses = {gate.status for gate in gates}
    if "fail" in statuses:
        return "fail"
    return "pass" if proven and "unproven" not in statuses else "unproven"


def build_rung(build: Mapping[str, Any]) -> str:
    """Return the rung of the ladder that a build stands on."""
    return f"{build['runtime']}-{build['precision']}"


def winner(
    builds: Iterable[Mapping[str, Any]],
    *,
    control: float,
    max_drop: float,
    on_device: bool,
    failed: Collection[str] = (),
) -> Mapping[str, Any] | None:
    """Return the fastest pruned build inside the accuracy budget; the first one where speed wasn't measured there.

    ``failed`` names the rungs that lost more than their own budget: their builds are out.
    """
    slim = [build for build in builds if build["model"] == "slim" and build_rung(build) not in failed]
    inside = [build for build in slim if control - build["map50_95"] <= max_drop]
    if not on_device:
        return next(iter(inside), None)
    return max(inside, key=lambda b: b["bench"]["fps"] if b["bench"] and b["bench"]["valid"] else 0.0, default=None)
