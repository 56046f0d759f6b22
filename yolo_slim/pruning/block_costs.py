"""The table of block costs that allocation follows: what each block costs in mAP and saves in milliseconds.

Schema 1::

    {"schema": 1, "kind": "block_costs", "model_sha256": "...", "removed": 0.5,
     "blocks": [{"name": "model.2", "map_cost": 0.012, "ms_gain": 0.31}, ...]}

``removed`` is the share of its channels that each block lost, alone, when it was measured; ``map_cost`` the mAP50-95
that this cost, ``ms_gain`` the milliseconds that an image got faster. ``name`` is a module's name and stands for all
layers below it; the longest name decides. ``yolo-slim block-costs`` measures such a table with many more keys
(:class:`yolo_slim.measuring.block_costs.BlockCostTable`); one with these keys alone may be written by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.measuring.block_costs import KIND, SCHEMA, RoundMs, require_present_kind
from yolo_slim.pruning.goal import CostModel
from yolo_slim.pruning.slots import Slot, widths_of

LEAST_MAP_COST = 1e-4
"""mAP that a block costs at least: below a hundredth of a point the sign is noise, and nothing is free."""
LEAST_MS_GAIN = 1e-3
"""Milliseconds below which nothing was gained; a table without any gain is ranked by score per MAC."""


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """One row of the table: what allocation reads of it."""

    name: str
    map_cost: float
    """mAP50-95 lost, as a fraction: .01 is one point."""
    ms_gain: float
    """Milliseconds an image gained."""
    round_ms: RoundMs | None = None
    """The rounds behind the gain; None: the row was written by hand."""
    is_throttled: bool = False
    """The timing doesn't count."""

    @property
    def shows_gain(self) -> bool:
        """Whether the gain stands out from its own scatter: three quarters of the rounds agree on it.

        A gain without rounds is believed.
        """
        if self.ms_gain < LEAST_MS_GAIN:
            return False
        # Every round times control and cut, so a slow moment of the machine is in both and not in their difference.
        return self.round_ms is None or float(np.percentile(self.round_ms.gains, 25)) > 0

    @classmethod
    def from_json(cls, value: Any) -> BlockCost:
        """Read a checked row."""
        return cls(
            name=value["name"],
            map_cost=float(value["map_cost"]),
            ms_gain=float(value["ms_gain"]),
            round_ms=_rounds(value.get("round_ms")),
            is_throttled=bool(value.get("invalid_reasons")),
        )


@dataclass(frozen=True, kw_only=True)
class BlockCosts:
    """The table of one model: what allocation reads of it."""

    model_sha256: str
    removed: float
    """Share of its channels that each block lost when it was measured."""
    blocks: tuple[BlockCost, ...]
    imgsz: int | None = None
    """Input side, pixels; None: the table doesn't say."""
    measured_on: str = ""
    """Whose milliseconds these are, for people: ``ncnn fp16 for rpi5``; empty: the table doesn't say."""

    def block_of(self, name: str) -> BlockCost | None:
        """The row that stands for a layer, None where none does."""
        rows = [block for block in self.blocks if name == block.name or name.startswith(f"{block.name}.")]
        return max(rows, key=lambda block: len(block.name), default=None)

    @classmethod
    def from_json(cls, value: Any) -> BlockCosts:
        """Read a checked table."""
        return cls(
            model_sha256=value["model_sha256"],
            removed=float(value["removed"]),
            blocks=tuple(map(BlockCost.from_json, value["blocks"])),
            imgsz=value.get("imgsz"),
            measured_on=" for ".join(str(value[key]) for key in ("runtime", "target") if key in value),
        )


def load_block_costs(path: Path, model_sha256: str, imgsz: int) -> BlockCosts:
    """Read a model's table of block costs.

    Args:
        path: the file.
        model_sha256: SHA-256 of the model's file.
        imgsz: input side in pixels of the cut that will follow it.

    Raises:
        SlimError: no such file, no such table, wrong values (all named), a newer schema, timings that don't count, or a
            table of another model or input side.
    """
    costs = _read(path)
    _require_timed(path, costs)
    _require_same_network(path, costs, model_sha256, imgsz)
    return costs


def _read(path: Path) -> BlockCosts:
    """Read a table, of which every key and type that allocation needs is checked."""
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise SlimError(f"Table of block costs not found: {path}", remedy="Check prune.block_costs.") from None
    except ValueError as error:
        raise SlimError(f"{path}: not JSON ({error}).", remedy="Make the table of block costs again.") from None
    require_present_kind(value, str(path))
    if problems := _problems(value):
        raise SlimError(
            f"{path}: not a table of block costs of schema {SCHEMA}.",
            culprits=problems,
            remedy="Correct these values, or make the table again with this yolo_slim.",
        )
    return BlockCosts.from_json(value)


def _require_timed(path: Path, costs: BlockCosts) -> None:
    """Refuse timings that don't count."""
    if throttled := [row.name for row in costs.blocks if row.is_throttled]:
        raise SlimError(
            f"{path}: the timings of some blocks don't count: the machine throttled or was busy.",
            culprits=throttled,
            remedy="Run `yolo-slim block-costs` again: it measures these blocks anew and keeps the others.",
        )


def _require_same_network(path: Path, costs: BlockCosts, model_sha256: str, imgsz: int) -> None:
    """Refuse a table of another model or input side."""
    if costs.model_sha256 != model_sha256:
        raise SlimError(
            f"{path}: the block costs were measured on another model "
            f"({costs.model_sha256[:12]}, not {model_sha256[:12]}).",
            remedy="Measure this model with `yolo-slim block-costs`, or set prune.scope: global.",
        )
    if costs.imgsz not in (None, imgsz):
        raise SlimError(
            f"{path}: the block costs were measured at {costs.imgsz} px, not at {imgsz}.",
            remedy="Measure them at this input side (`yolo-slim block-costs --imgsz`), or set prune.scope: global.",
        )


def _problems(value: Any) -> list[str]:
    """What is wrong with a table's JSON value, one line a problem."""
    if not isinstance(value, dict) or value.get("kind") != KIND:
        return [f'kind: expected "{KIND}"']
    problems = []
    if value.get("schema") != SCHEMA:
        problems.append(f"schema: got {value.get('schema')!r}; expected {SCHEMA}")
    if not isinstance(value.get("model_sha256"), str):
        problems.append("model_sha256: expected the SHA-256 of the model's file")
    if not _is_number(value.get("removed")) or not 0 < value["removed"] < 1:
        problems.append(f"removed: got {value.get('removed')!r}; expected a fraction between 0 and 1")
    blocks = value.get("blocks")
    if not isinstance(blocks, list) or not blocks:
        return [*problems, "blocks: expected a list of rows"]
    return [*problems, *(problem for i, row in enumerate(blocks) for problem in _row_problems(i, row))]


def _row_problems(index: int, row: Any) -> Iterator[str]:
    """What is wrong with one row."""
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        yield f"blocks[{index}].name: expected a module's name"
        return
    for key in ("map_cost", "ms_gain"):
        if not _is_number(row.get(key)):
            yield f"blocks[{index}].{key} ({row['name']}): got {row.get(key)!r}; expected a number"
    if not _are_rounds(row.get("round_ms")):
        yield (
            f"blocks[{index}].round_ms ({row['name']}): expected control and cut, as many milliseconds each; "
            "leave the key out to have ms_gain used as it is"
        )


def _is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    # bool is an int in Python, but not in JSON.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rounds(value: Any) -> RoundMs | None:
    """Read the checked rounds of a timing; None where there are none."""
    return RoundMs(control=tuple(value["control"]), cut=tuple(value["cut"])) if value else None


def _are_rounds(value: Any) -> bool:
    """Whether a JSON value is the rounds of a timing, or none."""
    if not value:
        return True
    pair: list[Any] = [value.get(key) for key in ("control", "cut")] if isinstance(value, dict) else [None]
    if not all(isinstance(one, list) and one and all(map(_is_number, one)) for one in pair):
        return False
    return len(pair[0]) == len(pair[1])


def prices(slots: list[Slot], cost: CostModel, costs: BlockCosts) -> np.ndarray:
    """Factor of each slot's scores, shape (slots,), that makes score per MAC mean mAP per millisecond.

    A block's scores are scaled so that losing ``removed`` of its channels costs its measured mAP, and its MACs so that
    the same cut gains its measured milliseconds.

    Args:
        slots: the unpruned network's decisions.
        cost: its MACs.
        costs: the table.

    Raises:
        SlimError: slots that can give channels up but have no row.
    """
    rows = _rows_of(slots, costs)
    # The same cut as when the table was measured, by the present scores and MACs.
    measured = {
        row: _cut_alone(costs.removed, slots, members, cost)
        for row in dict.fromkeys(row for row in rows if row is not None)
        if (members := [i for i, own in enumerate(rows) if own is row and slots[i].floor < slots[i].width])
    }
    usual = _usual_ms_per_mac(measured)
    factors = np.ones(len(slots))
    for row, cut in measured.items():
        # Where a block's gain is lost in scatter, the other blocks' gain per MAC is the better guess.
        ms_per_mac = row.ms_gain / cut.macs if row.shows_gain else max(usual, LEAST_MS_GAIN / cut.macs)
        factors[cut.members] = max(row.map_cost, LEAST_MAP_COST) / cut.score / ms_per_mac
    return factors


def _rows_of(slots: list[Slot], costs: BlockCosts) -> list[BlockCost | None]:
    """The row of every slot; None only where the slot can't give channels up."""
    rows = [costs.block_of(slot.name) for slot in slots]
    missing = [slot.name for slot, row in zip(slots, rows, strict=True) if row is None and slot.floor < slot.width]
    if missing:
        raise SlimError(
            "The table of block costs has no row for some layers that can give channels up.",
            culprits=missing,
            remedy="Measure them too (`yolo-slim block-costs` does), or name them in prune.protect.",
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """What a block loses when it is cut alone, as it was measured."""

    members: list[int]
    score: float
    macs: float


def cut_of(width: int, removed: float) -> int:
    """How many of ``width`` channels go when a block alone loses the share ``removed``; one at least stays."""
    return min(round(width * removed), width - 1)


def _cut_alone(removed: float, slots: list[Slot], members: list[int], cost: CostModel) -> _Cut:
    """The scores and MACs that go when these slots alone lose the share ``removed`` of their channels."""
    keep = widths_of(slots)
    full = cost.total(keep)
    lost = 0.0
    for i in members:
        gone = cut_of(slots[i].width, removed)
        keep[i] -= gone
        lost += float(slots[i].unit_scores[:gone].sum())
    # Not 0, by which prices divide: random or equal scores may be, and a cut may save no MACs.
    return _Cut(members=members, score=max(lost, 1e-30), macs=max(full - cost.total(keep), 1.0))


def _usual_ms_per_mac(measured: Mapping[BlockCost, _Cut]) -> float:
    """Median of the milliseconds that the blocks with a gain gained for one MAC; 0 where none did."""
    found = [row.ms_gain / cut.macs for row, cut in measured.items() if row.shows_gain]
    return float(np.median(found)) if found else 0.0
