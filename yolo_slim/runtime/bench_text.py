"""A timing as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from yolo_slim.runtime.bench import UNMET
from yolo_slim.runtime.breakdown import PARTS, rows

if TYPE_CHECKING:
    from yolo_slim.runtime.bench import BenchResult
    from yolo_slim.runtime.cold_start import ColdStart
    from yolo_slim.runtime.readings import Range
    from yolo_slim.runtime.sustained import Point, Sustained


def as_text(result: BenchResult) -> str:
    """The stage table for people, then FPS and everything that makes the timing doubtful."""
    runtime = result.runtime
    size = "x".join(str(side) for side in result.bundle["imgsz"])
    lines = [
        f"{result.bundle['name']}: {runtime['runtime']} {runtime['precision']} {size}, {runtime['provider']}, "
        f"{runtime['threads']} threads, {result.machine['model']}",
        f"{'stage':<8}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}",
    ]
    for stage, latency in result.stages.items():
        lines.append(f"{stage:<8}{latency.p50_ms:>10.2f}{latency.p90_ms:>10.2f}{latency.p99_ms:>10.2f}")
    slow, fast = (1000 / ms for ms in (result.p50_spread_ms.highest, result.p50_spread_ms.lowest))
    lines.append(
        f"{result.fps:.1f} FPS end to end ({slow:.1f} to {fast:.1f} in tenths of the run), "
        f"{result.queries} frames in {result.seconds:.1f} s"
    )
    lines += [line for line in _lines(result) if line]
    lines += [f"NOT AS REQUIRED: {line}" for line in result.machine.get(UNMET, ())]
    lines += _breakdown(result)
    return "\n".join(lines + invalid_lines(result.invalid_reasons))


def invalid_lines(reasons: Sequence[str]) -> list[str]:
    """Why a timing doesn't count, and what to do; nothing where it counts."""
    if not reasons:
        return []
    remedy = "This timing doesn't count. Stop other programs, or let the machine cool if it was hot, and time again."
    return [*(f"INVALID: {reason}" for reason in reasons), remedy]


def _lines(result: BenchResult) -> Iterator[str]:
    """What else is known of the run; an empty line where nothing is."""
    tuned = result.runtime.get("tuned", "no")
    yield "" if tuned == "no" else f"tuned: {tuned}"
    yield _cold_start(result.cold_start) if result.cold_start else ""
    yield _sensors(result)
    load = result.load
    if load.reference_before_ms and load.reference_after_ms:
        yield f"fixed computation: {load.reference_before_ms:.2f} ms before, {load.reference_after_ms:.2f} ms after"
    if load.other_cores_before is not None and load.other_cores_after is not None:
        yield f"other processes: {load.other_cores_before:.1f} cores before, {load.other_cores_after:.1f} after"
    yield f"memory peak: {result.peak_memory_mb:.0f} MB" if result.peak_memory_mb else ""
    yield _sustained(result.sustained) if result.sustained else ""


def _breakdown(result: BenchResult) -> list[str]:
    """Where the time of a frame goes, one line a part."""
    if result.breakdown is None:
        return []
    lines = [
        f"{PARTS[row.part]:<48}{row.ms:>8.2f} ms{row.share:>8.1%}" for row in rows(result.stages, result.breakdown)
    ]
    return ["where the time goes (shares of the medians above):", *lines]


def _cold_start(found: ColdStart) -> str:
    start = "" if found.start_ms is None else f"start {found.start_ms:.0f} + "
    parts = f"{start}load {found.load_ms:.0f} + first frame {found.first_frame_ms:.0f}"
    return f"first detection after {found.total_ms:.0f} ms: {parts}"


def _sensors(result: BenchResult) -> str:
    """Those readings that the machine has; without any it says so."""
    seen, governors = result.sensors, ", ".join(result.after.governors)
    mode = result.machine.get("power_mode")
    parts = [
        f"governor {governors}" if governors else "",
        f"power mode {mode}" if mode else "",
        _between(seen.celsius, "C", ".1f"),
        _between(seen.cpu_mhz, "MHz", ".0f"),
        _between(seen.gpu_mhz, "MHz (GPU)", ".0f"),
        _between(seen.watts, "W", ".1f"),
        _between(seen.fan_rpm, "rpm", ".0f"),
        ", ".join(seen.limits),
    ]
    return "sensors: " + (", ".join(part for part in parts if part) or "this machine has none that can be read")


def _between(found: Range | None, unit: str, pattern: str) -> str:
    if found is None:
        return ""
    low, high = format(found.lowest, pattern), format(found.highest, pattern)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _sustained(found: Sustained) -> str:
    limits = f", {', '.join(found.limited_by)}" if found.limited_by else ""
    return (
        f"sustained {found.seconds / 60:.1f} min: {found.first_fps:.1f} FPS in the first {found.window_s:.0f} s, "
        f"{found.last_fps:.1f} in the last: {found.retention:.0%} are left{limits}"
    )


def progress(point: Point, seconds: float) -> str:
    """One line about a sustained run that goes on."""
    return f"sustained: {point.seconds / 60:.1f} of {seconds / 60:g} min, {point.fps:.1f} FPS"
