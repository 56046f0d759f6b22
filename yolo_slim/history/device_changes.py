"""Devices that changed: the reference, a bundle of an earlier night, runs slower or faster there than it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yolo_slim.history.rows import Judgement, Run


@dataclass(frozen=True, kw_only=True)
class DeviceChange:
    """One device in one night."""

    target: str
    """Name of the device in the matrix."""
    change: float
    """Change of the reference's latency in the cell where it moved most; .1: 10 % more than in earlier nights."""
    cells: int
    """Cells whose reference moved."""
    timed: int
    """Cells of the device whose reference was timed in earlier nights too."""
    moved: tuple[str, ...]
    """What differs on the device since the reference's night: SDKs, system, clocks."""

    @property
    def text(self) -> str:
        """What happened, without the device's name."""
        of = f" ({self.cells} of {self.timed} cells)" if self.timed > 1 else ""
        return f"its reference is {'up to ' if self.cells > 1 else ''}{slower_or_faster(self.change)}{of}"


def device_changes(runs: Iterable[Run]) -> list[DeviceChange]:
    """The devices of a night whose reference moved in at least one cell; the runs are judged."""
    known: dict[str, list[tuple[Run, Judgement, float]]] = {}
    for run in runs:
        if run.judgement and run.judgement.device_change is not None:
            known.setdefault(run.cell.target, []).append((run, run.judgement, run.judgement.device_change))
    return [
        _change(target, timed) for target, timed in sorted(known.items()) if any(j.device_changed for _, j, _ in timed)
    ]


def _change(target: str, timed: Sequence[tuple[Run, Judgement, float]]) -> DeviceChange:
    changed = [one for one in timed if one[1].device_changed]
    moved = [line for _, judged, _ in changed for line in judged.device_moved]
    return DeviceChange(
        target=target, change=max((change for *_, change in changed), key=abs),
        cells=len(changed), timed=len(timed), moved=tuple(dict.fromkeys(moved)),
    )  # fmt: skip


def slower_or_faster(change: float) -> str:
    """A change of the reference's own latency in words."""
    return f"{abs(change):.0%} {'slower' if change > 0 else 'faster'} than in earlier nights"
