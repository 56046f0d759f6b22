"""Import networks of earlier comparisons, made here or on another machine, by their figures.

A ``compare.json`` contains every network's accuracy and what made it. With the same model, data and settings that
accuracy needn't be measured again. Latency depends on the machine, so it is measured here, on the network's cut before
training, which has the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from yolo_slim.comparison import folder as folders
from yolo_slim.comparison.methods import METHODS
from yolo_slim.comparison.networks import Cell
from yolo_slim.comparison.result import CompareResult, Score, Training, load
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.workspace.folder import differences


@dataclass(frozen=True, kw_only=True)
class Imported:
    """One trained network of an earlier comparison."""

    cell: Cell
    macs: int
    """Of the fused graph."""
    scores: Mapping[str, Score]
    """By runtime."""
    made: Training

    @classmethod
    def from_json(cls, value: JsonObject) -> Imported:
        """Read what :func:`join` wrote."""
        scores = {key: Score(**score) for key, score in value["scores"].items()}
        return cls(cell=Cell(**value["cell"]), macs=value["macs"], scores=scores, made=Training(**value["made"]))


def read(path: Path, settings: JsonObject) -> list[Imported]:
    """Read the trained networks of one ``compare.json``.

    Raises:
        SlimError: it isn't a comparison's result, or has other settings.
    """
    result = load(path)
    if differing := differences(result.settings, settings):
        raise SlimError(
            f"{path} was measured with other settings, so its networks can't join this comparison.",
            culprits=differing,
            remedy="Give the same model, data and settings, or leave the file out.",
        )
    if unknown := sorted({entry.method for entry in result.methods} - set(METHODS)):
        raise SlimError(
            f"{path} has methods that this version doesn't know.",
            culprits=unknown,
            remedy="Update yolo_slim, or leave the file out.",
        )
    return list(_networks(result))


def _networks(result: CompareResult) -> Iterator[Imported]:
    """Yield the trained networks of a result."""
    for entry in result.methods:
        for seed in entry.seeds:
            if METHODS[entry.method].trained and seed.made and seed.seed is not None:
                cell = Cell(method=entry.method, removed=entry.removed or 0.0, seed=seed.seed)
                yield Imported(cell=cell, macs=seed.macs, scores=seed.scores, made=seed.made)


def join(folder: Path, networks: Sequence[Imported]) -> dict[Cell, Imported]:
    """Add imported networks to those of earlier calls, and keep all of them in the comparison's folder.

    A network that this folder trained isn't imported: the file may come from a machine that imported it from here.

    Args:
        folder: of the comparison.
        networks: what :func:`read` found; the first of a cell counts.
    """
    before = [Imported.from_json(value) for value in folders.imported_before(folder)]
    found: dict[Cell, Imported] = {}
    for one in [*before, *networks]:
        first = found.setdefault(one.cell, one)
        if first.made == one.made:
            # The same training, perhaps with runtimes that were compared later.
            found[one.cell] = replace(first, scores={**one.scores, **first.scores})
    found = {cell: one for cell, one in found.items() if not folders.is_trained(folder, cell)}
    if networks:
        folders.keep_imported(folder, [asdict(one) for one in found.values()])
    return found
