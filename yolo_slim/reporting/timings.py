"""What a device said while its bundles were timed, for the page and the terminal. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yolo_slim.devices.answers import Bench
from yolo_slim.reporting.facts import number
from yolo_slim.runtime.breakdown import PARTS, Row
from yolo_slim.runtime.breakdown import rows as rows_of
from yolo_slim.runtime.readings import Range
from yolo_slim.runtime.sustained import Sustained
from yolo_slim.verdict.result import Build, Result

UNKNOWN = "not readable"


@dataclass(frozen=True, kw_only=True)
class TimingRow:
    """What was seen beside the frames of one build, as text."""

    build: str
    first_detection: str
    """Milliseconds from the start of a process."""
    celsius: str
    cpu_mhz: str
    watts: str
    governor: str
    others: str
    """Cores that other programs used."""
    reference: str
    """The fixed computation before and after, milliseconds."""


def rows(builds: Iterable[Build]) -> list[TimingRow]:
    """One row for every build that was timed."""
    return [_row(str(build.key), build.bench) for build in builds if build.bench]


def _row(name: str, bench: Bench) -> TimingRow:
    seen, load = bench.sensors, bench.load
    before, after = (load.reference_before_ms, load.reference_after_ms) if load else (None, None)
    return TimingRow(
        build=name,
        first_detection=number(bench.cold_start.total_ms if bench.cold_start else None, ".0f"),
        celsius=span(seen.celsius if seen else None, ".1f"),
        cpu_mhz=span(seen.cpu_mhz if seen else None, ".0f"),
        watts=span(seen.watts if seen else None, ".1f"),
        governor=", ".join(bench.after.governors) or UNKNOWN,
        others=number(load.other_cores if load else None, ".2f", UNKNOWN),
        reference="not measured" if before is None or after is None else f"{before:.2f}, {after:.2f}",
    )


def span(found: Range | None, pattern: str) -> str:
    """The smallest and the largest reading."""
    if found is None:
        return UNKNOWN
    low, high = format(found.lowest, pattern), format(found.highest, pattern)
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """One part of a frame in every build, as text."""

    part: str
    """What it is."""
    cells: tuple[tuple[str, str], ...]
    """Milliseconds and share of every build; empty texts: the build has no such part."""


@dataclass(frozen=True, kw_only=True)
class PartTable:
    """Where the time of a frame goes."""

    builds: tuple[str, ...]
    rows: tuple[PartRow, ...]
    covered: str
    """How much of the inference the operations' own times add up to, build by build."""


def parts(builds: Iterable[Build]) -> PartTable | None:
    """The table of all builds whose time was divided; None: there is none."""
    found = {str(one.key): (one.bench, one.bench.breakdown) for one in builds if one.bench and one.bench.breakdown}
    if not found:
        return None
    columns = [{row.part: row for row in rows_of(dict(bench.stages), part)} for bench, part in found.values()]
    return PartTable(
        builds=tuple(found),
        rows=tuple(
            PartRow(part=meaning, cells=tuple(_cell(column.get(key)) for column in columns))
            for key, meaning in PARTS.items()
            if any(key in column for column in columns)
        ),
        covered=", ".join(
            f"{name} {part.covered:.0%}" for name, (_, part) in found.items() if part.covered is not None
        ),
    )


def _cell(row: Row | None) -> tuple[str, str]:
    return (f"{row.ms:.2f}", f"{row.share:.1%}") if row else ("", "")


def sustained_of(result: Result) -> Sustained | None:
    """The winner's run of minutes, None where there is none."""
    bench = result.best.bench if result.best else None
    return bench.sustained if bench else None


def sustained_text(found: Sustained) -> str:
    """A run of minutes in a sentence or two."""
    text = (
        f"{found.seconds / 60:.1f} minutes without a pause: {found.first_fps:.1f} FPS in the first "
        f"{found.window_s:.0f} s, {found.last_fps:.1f} in the last ({found.retention:.0%})."
    )
    if found.limited_by:
        text += f" The device protected itself: {', '.join(found.limited_by)}."
    if found.invalid_reasons:
        text += f" Invalid: {'; '.join(found.invalid_reasons)}."
    return text
