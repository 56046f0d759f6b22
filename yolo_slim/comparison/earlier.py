"""Networks that were trained for an earlier comparison, here or on another machine, take part by their figures.

A ``compare.json`` holds every network's accuracy and what made it. With the same model, data and settings that
accuracy needn't be measured again; latency has to be, and is, by the network's cut before training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolo_slim.comparison.arms import ARMS
from yolo_slim.comparison.cells import Cell
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.workspace.job import read_manifest

EARLIER = "earlier.json"


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """One trained network of an earlier comparison."""

    cell: Cell
    macs: int | None
    """Of the fused graph; None where it wasn't recorded."""
    scores: Mapping[str, Mapping[str, Any]]
    """Runtime to ``map50_95`` and ``map50``."""
    made: Mapping[str, Any]
    """Where, when and how it was trained."""


def take_over(folder: Path, networks: Sequence[Earlier]) -> dict[Cell, Earlier]:
    """Return the trained networks given and those of earlier calls, and keep them in the folder.

    What this folder has trained itself stays its own: a file may come from a machine that took it over from here.

    Args:
        folder: of the comparison that they join.
        networks: what :func:`read` found; the first of a cell decides.
    """
    kept = [_from_json(value) for value in read_json(folder / EARLIER)] if (folder / EARLIER).is_file() else []
    found: dict[Cell, Earlier] = {}
    for one in [*kept, *networks]:
        first = found.setdefault(one.cell, one)
        if first.made == one.made:
            # The same training, perhaps with runtimes that were compared later.
            found[one.cell] = replace(first, scores={**one.scores, **first.scores})
    found = {cell: one for cell, one in found.items() if not read_manifest(folder / cell.folder / "recover")}
    if networks:
        write_json(folder / EARLIER, [asdict(one) for one in found.values()])
    return found


def _from_json(value: Mapping[str, Any]) -> Earlier:
    """Return what :func:`take_over` wrote."""
    return Earlier(cell=Cell(**value["cell"]), macs=value["macs"], scores=value["scores"], made=value["made"])


def read(path: Path, settings: Mapping[str, Any]) -> list[Earlier]:
    """Return the trained networks of one ``compare.json``.

    Raises:
        SlimError: it isn't a comparison's result, or one of other settings.
    """
    try:
        value = read_json(path)
        found = dict(value["settings"])
        networks = list(_networks(value["arms"]))
    except OSError:
        raise SlimError(f"{path} can't be read.", remedy="Give the compare.json of an earlier comparison.") from None
    except (ValueError, KeyError, TypeError):
        raise SlimError(
            f"{path} isn't the result of a comparison whose networks can be taken over.",
            remedy="Give the compare.json that `yolo-slim compare` wrote, of this version.",
        ) from None
    if differing := differences(found, settings):
        raise SlimError(
            f"{path} was measured with other settings; its networks don't belong in this comparison.",
            culprits=differing,
            remedy="Give the same model, data and settings, or leave the file out.",
        )
    return networks


def _networks(arms: Iterable[Mapping[str, Any]]) -> Iterable[Earlier]:
    """Yield the trained networks of a result's arms."""
    for entry in arms:
        for seed in entry["seeds"]:
            if ARMS[entry["arm"]].trained:
                cell = Cell(arm=entry["arm"], removed=entry["removed"] or 0.0, seed=seed["seed"])
                yield Earlier(cell=cell, macs=seed["macs"], scores=seed["scores"], made=seed["made"])


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line per setting that isn't the same."""
    return [
        f"{key}: {there.get(key)} there, {now.get(key)} now"
        for key in {**now, **there}
        if there.get(key) != now.get(key)
    ]
