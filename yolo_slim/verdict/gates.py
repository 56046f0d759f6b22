"""From measurements to a verdict: pass, fail or unproven. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.profile import Budget, RungBudgets
from yolo_slim.verdict.result import Build, ClassAccuracy, Gate, Rung, Status, Verdict, WorstClass

NO_BUILD = "no build is inside the accuracy budget"
DROP_UNIT = "mAP50-95 drop"


def gate(
    name: str, limit: float, value: float | None, unit: str, *, least: bool = False, missing: str = "", rung: str = ""
) -> Gate:
    """Compare a value with its largest (or ``least``) allowed; ``missing`` says why there is none."""
    status, reason = _compared(limit, value, unit, least=least) if value is not None else ("unproven", missing)
    return Gate(name=name, rung=rung or None, limit=limit, value=value, unit=unit, status=status, reason=reason)


def _compared(limit: float, value: float, unit: str, *, least: bool) -> tuple[Status, str]:
    """Judge a value, and say by how much it is outside."""
    if value >= limit if least else value <= limit:
        return "pass", ""
    word = "at least" if least else "at most"
    return "fail", f"{value:.4g} {unit}, {word} {limit:.4g} allowed: off by {abs(value - limit):.3g}"


def rung_gates(ladder: Iterable[Rung], others: Collection[BuildName] = ()) -> list[Gate]:
    """Judge every rung that has a budget, except those of ``others``: builds that didn't win."""
    return [
        gate(f"rung:{rung.rung}", rung.budget, rung.drop, DROP_UNIT, rung=rung.rung)
        for rung in ladder
        if rung.budget is not None and rung.build not in others
    ]


def worst_class(before: Mapping[int, ClassAccuracy], after: Mapping[int, ClassAccuracy]) -> WorstClass | None:
    """Find the class that lost most AP50-95, None where no class is in both."""
    drops = {key: before[key].ap50_95 - after[key].ap50_95 for key in before if key in after}
    if not drops:
        return None
    worst = max(drops, key=lambda key: drops[key])
    return WorstClass(class_id=worst, drop=drops[worst])


def rung_budget(rung: str, build: BuildName | None, budgets: RungBudgets) -> float | None:
    """Look up the largest drop of a rung, by its name or by its bundle's precision."""
    # Rungs without a field in RungBudgets, such as the untrained cut, aren't judged.
    found: float | None = getattr(budgets, build.precision if build else rung, None)
    return found


def device_gates(budget: Budget, build: Build | None, drop: float | None, missing: str) -> list[Gate]:
    """Judge the winning build by the profile's budget; ``missing`` (if not empty) says why speed isn't proven."""
    bench = build.bench if build and not missing else None
    if bench and not bench.is_valid:
        missing = f"the timing is invalid: {'; '.join(bench.invalid_reasons)}"
        bench = None
    why = missing or NO_BUILD
    p99 = bench.stages.total.p99_ms if bench else None
    memory = bench.peak_memory_mb if bench else None
    rows = [
        ("min_fps", budget.min_fps, bench.fps if bench else None, "FPS", True, why),
        ("max_p99_ms", budget.max_p99_ms, p99, "ms", False, why),
        ("max_memory_mb", budget.max_memory_mb, memory, "MB", False, why),
        # Size doesn't depend on the machine, and accuracy hardly does: both are judged without the target too.
        ("max_size_mb", budget.max_size_mb, build.size_mb if build else None, "MB", False, NO_BUILD),
        ("max_map50_95_drop", budget.max_map50_95_drop, drop, "mAP50-95", False, NO_BUILD),
    ]
    return [
        gate(name, limit, value, unit, least=least, missing=reason)
        for name, limit, value, unit, least, reason in rows
        if limit is not None
    ]


def verdict(gates: Iterable[Gate], *, proven: bool) -> Verdict:
    """Fail if any gate failed; unproven if one is, or if the target is absent (``proven`` is False); else pass."""
    found = tuple(gates)
    statuses = {gate.status for gate in found}
    status: Status = "pass" if proven and "unproven" not in statuses else "unproven"
    return Verdict(status="fail" if "fail" in statuses else status, gates=found)


def winner(
    builds: Iterable[Build], *, control: float, max_drop: float, on_target: bool, failed: Collection[BuildName] = ()
) -> BuildKey | None:
    """Choose the fastest slim build inside the accuracy budget; the first one where speed wasn't measured on target.

    ``failed`` names the builds that lost more than their own rung's budget: they are out.
    """
    slim = [build for build in builds if build.key.is_slim and build.key.build not in failed]
    inside = [build for build in slim if _drop(build, control) <= max_drop]
    if on_target:
        # The sort is stable: builds without a valid timing keep the profile's order.
        inside.sort(key=lambda build: build.valid_bench.fps if build.valid_bench else 0.0, reverse=True)
    return inside[0].key if inside else None


def _drop(build: Build, control: float) -> float:
    """How much mAP50-95 a build lost; a build without a figure has lost everything."""
    return control - (build.map50_95 or 0.0)
