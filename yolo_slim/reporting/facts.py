"""What the page and the terminal text both say of a result. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from yolo_slim import files
from yolo_slim.verdict.emulated import proof
from yolo_slim.verdict.result import Build, Gate, Result

NOT_MEASURED = "not measured"
STATUS_SIGN = {"pass": "✓", "fail": "✗", "unproven": "?"}
"""Beside every coloured status, because not everybody sees the colours."""


def number(value: float | None, pattern: str = ".4f", missing: str = NOT_MEASURED) -> str:
    """Format a number, or say that it is missing (None or NaN)."""
    return missing if value is None or math.isnan(value) else format(value, pattern)


def signed(value: float | None, pattern: str = "+.4f") -> str:
    """Format a number with its sign, minus as a true minus sign; what rounds to zero has none."""
    text = number(value, pattern)
    return text[1:] if not text.strip("+-0.") else text.replace("-", "\N{MINUS SIGN}")


def verdict_text(result: Result) -> str:
    """Explain the verdict in a sentence, and in another one what an emulated processor proved."""
    found = proof(result)
    return " ".join([_judgement(result), *([f"{found[0].upper()}{found[1:]}."] if found else [])])


def _judgement(result: Result) -> str:
    """Explain the verdict by its gates."""
    gates = result.verdict.gates
    failed, unproven = _names(gates, "fail"), _names(gates, "unproven")
    if not gates:
        return "No gate was set, so nothing was judged."
    if failed:
        return f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}."
    if unproven:
        return f"No gate failed, but {len(unproven)} of {len(gates)} weren't measured: {', '.join(unproven)}."
    if result.verdict.status == "unproven":
        return "Every gate passed, but the bundles didn't run on the target, so the verdict is unproven."
    return f"All {len(gates)} gates passed."


def _names(gates: tuple[Gate, ...], status: str) -> list[str]:
    return [gate.name for gate in gates if gate.status == status]


def timing_remark(build: Build) -> str:
    """Say why a build's timing doesn't count, nothing where it does."""
    if build.bench is None:
        return "unproven: this build was not timed"
    if build.bench.is_valid:
        return ""
    return f"invalid: {'; '.join(build.bench.invalid_reasons)}"


def flat(value: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Go through nested JSON: dotted key and text of every value."""
    for key, item in files.flat(value).items():
        if isinstance(item, (list, tuple)):
            yield key, ", ".join(map(str, item)) or "none"
        else:
            yield key, "unknown" if item is None else str(item)
