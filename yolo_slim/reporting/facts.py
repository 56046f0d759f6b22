"""What the page and the terminal text both read out of a ``result.json`` value. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from yolo_slim import files
from yolo_slim.measuring import rounds as timing

Json = Mapping[str, Any]

NOT_MEASURED = "not measured"
CHAIN = ("control", "pruned", "recovered", "onnx")
"""Rungs that every complete ladder has, in order; one rung per bundle follows."""
STATUS_SIGN = {"pass": "✓", "fail": "✗", "unproven": "?"}
"""Beside every coloured status, so that no meaning hangs on colour."""


def number(value: float | None, pattern: str = ".4f", missing: str = NOT_MEASURED) -> str:
    """Return a formatted number, or what stands for a missing one (None or NaN)."""
    return missing if value is None or math.isnan(value) else format(value, pattern)


def signed(value: float | None, pattern: str = "+.4f") -> str:
    """Return a number with its sign, minus as a true minus sign; what rounds to zero has none."""
    text = number(value, pattern)
    return text[1:] if not text.strip("+-0.") else text.replace("-", "\N{MINUS SIGN}")


def best_build(builds: Iterable[Json]) -> Json | None:
    """Return the winning build, None if there is none."""
    return next((build for build in builds if build["winner"]), None)


def partner(build: Json | None, builds: Iterable[Json]) -> Json | None:
    """Return the control in the same runtime and precision as ``build``."""
    if build is None:
        return None
    key = (build["runtime"], build["precision"])
    return next((b for b in builds if b["model"] == "control" and (b["runtime"], b["precision"]) == key), None)


def speedup(build: Json, result: Json) -> Json | None:
    """Return how a slim build compares with its control in speed, None where that wasn't measured."""
    key = (build["runtime"], build["precision"])
    rows: Iterable[Json] = result.get("speedups", []) if build["model"] == "slim" else []
    return next((row for row in rows if (row["runtime"], row["precision"]) == key), None)


def valid_bench(build: Json | None) -> Json | None:
    """Return a build's timing if there is one that counts."""
    timing = build["bench"] if build else None
    return timing if timing and timing["valid"] else None


def is_target(result: Json) -> bool:
    """Return whether the speeds were measured on the target itself; a result that doesn't say is taken to be so."""
    return bool(result["target"].get("is_this_machine", True))


def missing_rungs(result: Json) -> list[str]:
    """Return the rungs that a complete ladder would have and this one hasn't."""
    wanted = [*CHAIN, *(f"{b['runtime']}-{b['precision']}" for b in result["builds"] if b["model"] == "slim")]
    have = {rung["rung"] for rung in result["ladder"]}
    return [rung for rung in dict.fromkeys(wanted) if rung not in have]


def slim_rung(result: Json) -> Json | None:
    """Return the rung that stands for the slim model: the winner's, else the last one after the control."""
    best = best_build(result["builds"])
    name = f"{best['runtime']}-{best['precision']}" if best else ""
    rungs = [rung for rung in result["ladder"] if rung["rung"] != "control"]
    return next((rung for rung in rungs if rung["rung"] == name), rungs[-1] if rungs else None)


def control_rung(result: Json) -> Json | None:
    """Return the ladder's control, None where it wasn't measured."""
    return next((rung for rung in result["ladder"] if rung["rung"] == "control"), None)


def verdict_text(result: Json) -> str:
    """Return one sentence that explains the verdict."""
    gates: Sequence[Json] = result["verdict"]["gates"]
    failed = [gate["name"] for gate in gates if gate["status"] == "fail"]
    open_ = [gate["name"] for gate in gates if gate["status"] == "unproven"]
    if not gates:
        return "No gate was set, so nothing was judged."
    if failed:
        return f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}."
    if open_:
        return f"No gate failed, but {len(open_)} of {len(gates)} weren't measured: {', '.join(open_)}."
    if result["verdict"]["status"] == "unproven":
        return "Every gate holds, but not on the target: the verdict waits for a measurement there."
    return f"All {len(gates)} gates hold."


def timing_remark(build: Json) -> str:
    """Return why a build's timing doesn't count, empty where it does."""
    timing = build["bench"]
    if not timing:
        return "unproven: this build was not timed"
    if timing["valid"]:
        return ""
    return f"invalid: {'; '.join(timing['invalid_reasons']) or 'no reason recorded'}"


def flat(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield dotted keys and texts of nested JSON."""
    for key, item in files.flat(value).items():
        if isinstance(item, (list, tuple)):
            yield key, ", ".join(map(str, item)) or "none"
        else:
            yield key, "not known" if item is None else str(item)


def middle_half(row: Json) -> tuple[float, float]:
    """Return the quartiles of a block_costs row's gains over its turns, milliseconds.

    On a shared machine one turn in twenty-five is off by tens of milliseconds, so smallest and largest say little.
    """
    turns = row["round_ms"]
    gains = [before - after for before, after in zip(turns["control"], turns["cut"], strict=True)]
    low, _, high = timing.quartiles(gains)
    return low, high
