"""The table of block costs: what each block costs in mAP and saves in milliseconds, as a file that allocation follows.

Schema 1::

    {"schema": 1, "kind": "block_costs", "model_sha256": "...", "removed": 0.5, "runtime": "onnxruntime fp32",
     "blocks": [{"name": "model.2", "map_cost": 0.012, "ms_gain": 0.31}, ...]}

``removed`` is the share of its channels that each block lost, alone, when it was measured; ``map_cost`` the mAP50-95
that this cost, ``ms_gain`` the milliseconds that an image got faster. ``name`` is a module's name and stands for all
layers below it; the longest name decides. Other keys, of a row or of the table, are for people. ``yolo-slim
block-costs`` measures such a table (:mod:`yolo_slim.stages.block_costs`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.pruning.goal import CostModel
from yolo_slim.pruning.slots import Slot, widths_of

SCHEMA = 1
LEAST_MAP_COST = 1e-4
"""mAP that a block costs at least: below a hundredth of a point the sign is noise, and nothing is free."""
LEAST_MS_GAIN = 1e-3
"""Milliseconds below which nothing was gained; a table without any gain is ranked by score per MAC."""


class RowJson(TypedDict):
    """One row in the file; other keys are for people."""

    name: str
    map_cost: float
    ms_gain: float


class _TableOptions(TypedDict, total=False):
    imgsz: int
    """Input side in pixels of the measurement; a table written by hand may lack it."""


class TableJson(_TableOptions):
    """The file; other keys are for people."""

    model_sha256: str
    removed: float
    blocks: list[RowJson]


ROW_KEYS = ("name", "map_cost", "ms_gain")
"""Keys of a row that allocation needs."""


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """One row of the table."""

    name: str
    map_cost: float
    """mAP50-95 lost, as a fraction: .01 is one point."""
    ms_gain: float
    """Milliseconds an image gained."""
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Other keys of the row: spread, MACs saved and so on."""

    @property
    def shows_gain(self) -> bool:
        """Whether the gain stands out from its own scatter: three quarters of the timing rounds agree on it.

        A row without rounds (``round_ms``) was written by hand, so its gain is believed.
        """
        rounds = self.details.get("round_ms")
        if self.ms_gain < LEAST_MS_GAIN:
            return False
        # Every round times control and cut, so a slow moment of the machine is in both and not in their difference.
        return not rounds or float(np.percentile(np.subtract(rounds["control"], rounds["cut"]), 25)) > 0

    def to_json(self) -> dict[str, object]:
        """The row as a JSON value."""
        return {**{key: getattr(self, key) for key in ROW_KEYS}, **self.details}

    @staticmethod
    def from_json(values: RowJson) -> BlockCost:
        """The row in a checked JSON value."""
        details = {key: value for key, value in values.items() if key not in ROW_KEYS}
        name, map_cost, ms_gain = values["name"], values["map_cost"], values["ms_gain"]
        return BlockCost(name=name, map_cost=map_cost, ms_gain=ms_gain, details=details)


@dataclass(frozen=True, kw_only=True)
class BlockCosts:
    """The measured table of one model."""

    model_sha256: str
    removed: float
    """Share of its channels that each block lost when it was measured."""
    blocks: tuple[BlockCost, ...]
    about: Mapping[str, Any]
    """Other keys: runtime, machine, image counts."""

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        head = {"schema": SCHEMA, "kind": "block_costs", "model_sha256": self.model_sha256, "removed": self.removed}
        write_json(path, {**self.about, **head, "blocks": [block.to_json() for block in self.blocks]})

    @property
    def measured_on(self) -> str:
        """Whose milliseconds these are, for people: ``ncnn fp16 for rpi5``."""
        known = [str(self.about[key]) for key in ("runtime", "target") if key in self.about]
        return " for ".join(known) or "a runtime that it doesn't name"

    def block_of(self, name: str) -> BlockCost | None:
        """The row that stands for a layer, None where none does."""
        rows = [block for block in self.blocks if name == block.name or name.startswith(f"{block.name}.")]
        return max(rows, key=lambda block: len(block.name), default=None)


def load_block_costs(path: Path, model_sha256: str, imgsz: int) -> BlockCosts:
    """Read a model's table of block costs.

    Args:
        path: the file.
        model_sha256: SHA-256 of the model's file.
        imgsz: input side in pixels of the cut that will follow it.

    Raises:
        SlimError: no such file, no such table, wrong values (all named), a newer schema, or a table of another model or
            input side.
    """
    values = _read(path)
    _require_usable(path, values, model_sha256, imgsz)
    own = ("schema", "kind", "model_sha256", "removed", "blocks")
    return BlockCosts(
        model_sha256=model_sha256,
        removed=float(values["removed"]),
        blocks=tuple(BlockCost.from_json(row) for row in values["blocks"]),
        about={key: value for key, value in values.items() if key not in own},
    )


def _read(path: Path) -> TableJson:
    """The JSON value of a table, of which every key and type that allocation needs is checked."""
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise SlimError(f"Table of block costs not found: {path}", remedy="Check prune.block_costs.") from None
    except ValueError as error:
        raise SlimError(f"{path}: not JSON ({error}).", remedy="Make the table of block costs again.") from None
    if problems := _problems(values):
        raise SlimError(
            f"{path}: not a table of block costs of schema {SCHEMA}.",
            culprits=problems,
            remedy="Correct these values, or make the table again with this yolo_slim.",
        )
    return cast("TableJson", values)


def _require_usable(path: Path, values: TableJson, model_sha256: str, imgsz: int) -> None:
    """Raise for timings that don't count, and for a table of another model or input side."""
    throttled = [row["name"] for row in values["blocks"] if row.get("invalid_reasons")]
    if throttled:
        raise SlimError(
            f"{path}: the timings of some blocks don't count: the machine throttled.",
            culprits=throttled,
            remedy="Run `yolo-slim block-costs` again: it measures these blocks anew and keeps the others.",
        )
    measured = values["model_sha256"]
    if measured != model_sha256:
        raise SlimError(
            f"{path}: the block costs were measured on another model ({measured[:12]}, not {model_sha256[:12]}).",
            remedy="Measure this model with `yolo-slim block-costs`, or set prune.scope: global.",
        )
    if values.get("imgsz", imgsz) != imgsz:
        raise SlimError(
            f"{path}: the block costs were measured at {values['imgsz']} px, not at {imgsz}.",
            remedy="Measure them at this input side (`yolo-slim block-costs --imgsz`), or set prune.scope: global.",
        )


def _problems(values: Any) -> list[str]:
    """What is wrong with a table's JSON value, one line a problem."""
    if not isinstance(values, dict) or values.get("kind") != "block_costs":
        return ['kind: expected "block_costs"']
    problems = []
    if values.get("schema") != SCHEMA:
        problems.append(f"schema: got {values.get('schema')!r}; expected {SCHEMA}")
    if not isinstance(values.get("model_sha256"), str):
        problems.append("model_sha256: expected the SHA-256 of the model's file")
    if not _is_number(values.get("removed")) or not 0 < values["removed"] < 1:
        problems.append(f"removed: got {values.get('removed')!r}; expected a fraction between 0 and 1")
    blocks = values.get("blocks")
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


def _cut_alone(removed: float, slots: list[Slot], members: list[int], cost: CostModel) -> _Cut:
    """The scores and MACs that go when these slots alone lose the share ``removed`` of their channels."""
    keep = widths_of(slots)
    full = cost.total(keep)
    lost = 0.0
    for i in members:
        gone = round(slots[i].width * removed)
        keep[i] -= gone
        lost += float(slots[i].unit_scores[:gone].sum())
    # Not 0, by which prices divide: random or equal scores may be, and a cut may save no MACs.
    return _Cut(members=members, score=max(lost, 1e-30), macs=max(full - cost.total(keep), 1.0))


def _usual_ms_per_mac(measured: Mapping[BlockCost, _Cut]) -> float:
    """Median of the milliseconds that the blocks with a gain gained for one MAC; 0 where none did."""
    found = [row.ms_gain / cut.macs for row, cut in measured.items() if row.shows_gain]
    return float(np.median(found)) if found else 0.0
