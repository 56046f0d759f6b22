"""Latencies that others have published, with the source of each: what an estimate is made from.

Only figures are kept here, no text of the sources. docs/estimate.md says which rows were left out, and why.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from yolo_slim.build_key import BuildName

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a figure was published."""

    project: str
    """Who published it."""
    page: str
    """Page or file."""
    version: str
    """Version that was measured; empty: not stated."""
    date: str
    """Date of that version or of the page, ISO 8601, as exact as it is known."""
    commit: str
    """Commit of the page; empty: none."""

    def __str__(self) -> str:
        parts = (self.project, self.page, self.version, self.commit and f"commit {self.commit}", self.date)
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One figure of a published table: batch 1, inference alone."""

    device: str
    """Key of :func:`devices`."""
    build: BuildName
    """Runtime and precision, as yolo_slim names them."""
    network: str
    """Ultralytics' name of the network, with 80 classes."""
    imgsz: int
    """Input side, pixels."""
    macs: int
    """Multiply-accumulates of one image at that side, counted by yolo_slim on the fused network."""
    infer_ms: float
    """Latency of one image without pre- and post-processing."""
    source: Source


@dataclass(frozen=True, kw_only=True)
class PublishedDevice:
    """A device that there are rows of."""

    name: str
    """Key of the rows."""
    label: str
    """Name for people."""
    model: str
    """Beginning of the model in the device tree; a profile's ``device_model`` is searched in it."""
    threads: int | None
    """Inference threads of the rows; None: they don't matter."""
    power_modes: tuple[str, ...]
    """Power modes of the rows; empty: not stated, or there is one."""


@cache
def rows() -> tuple[PublishedRow, ...]:
    """Every row."""
    macs = {line["model"]: int(line["macs"]) for line in _lines("networks")}
    cited = {
        line["source"]: Source(**{key: text for key, text in line.items() if key != "source"})
        for line in _lines("sources")
    }
    return tuple(
        PublishedRow(
            device=line["device"],
            build=BuildName(line["runtime"], line["precision"]),
            network=line["model"],
            imgsz=int(line["imgsz"]),
            macs=macs[line["model"]] * int(line["imgsz"]) ** 2 // SIDE_OF_MACS**2,
            infer_ms=float(line["ms"]),
            source=cited[line["source"]],
        )
        for line in _lines("rows")
    )


@cache
def devices() -> tuple[PublishedDevice, ...]:
    """Every device."""
    return tuple(
        PublishedDevice(
            name=line["device"],
            label=line["label"],
            model=line["model"],
            threads=int(line["threads"]) if line["threads"] else None,
            power_modes=tuple(line["power_modes"].split()),
        )
        for line in _lines("devices")
    )


SIDE_OF_MACS = 640
"""Input side of the counts in networks.csv, pixels."""


def _lines(name: str) -> Iterator[dict[str, str]]:
    """The lines of one table by the names of its columns."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)
