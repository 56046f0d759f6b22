"""The prune plan: which channels of which layers stay, as JSON that can be read, edited, kept and replayed.

:mod:`yolo_slim.pruning.plan_edits` reads what a person changed in it and checks the result against the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import read_json, write_text
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.slots import Slot

PLAN_SCHEMA = 2
PLAN_KEYS = ("schema", "model_sha256", "settings", "edited", "layers", "norms")
CUT_KEYS = ("outputs_before", "outputs")
LAYER_KEYS = ("digest", *CUT_KEYS, "inputs_before", "inputs", "ranks", "keep")
SETTING_KEYS = (*PruneConfig.model_fields, "imgsz", "seed", "end2end")
PlanSettings = dict[str, Any]
"""JSON value of a :class:`PruneConfig`, with ``imgsz``, ``seed`` and ``end2end``."""


class _CutJson(TypedDict):
    outputs_before: int
    outputs: list[int]


class LayerJson(_CutJson, total=False):
    """A line of the file; those of normalisations have no more than their outputs."""

    digest: str
    inputs_before: int
    inputs: list[int]
    ranks: list[int]
    keep: object
    """A person's wish, of any type until it is checked."""


class PlanJson(TypedDict):
    """The file."""

    schema: int
    model_sha256: str
    settings: PlanSettings
    layers: dict[str, LayerJson]
    norms: dict[str, LayerJson]


@dataclass(frozen=True, kw_only=True)
class LayerCut:
    """Channels that stay in one layer, normalisation or parameter, as indices into the unpruned one."""

    outputs: tuple[int, ...]
    outputs_before: int
    inputs: tuple[int, ...] | None = None
    """None where the layer's inputs stay as they are (normalisations, depthwise convolutions)."""
    inputs_before: int | None = None


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """A cut of one model."""

    model_sha256: str
    settings: PlanSettings
    layers: dict[str, LayerCut]
    norms: dict[str, LayerCut]
    ranks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Layer to the rank of each of its unpruned outputs among the channels that can stand in for it; 0 is dearest."""
    edited: bool = False
    """Whether a person changed it, so that it may miss the budget in its settings."""

    def save(self, path: Path) -> None:
        """Write the plan as JSON, one layer a line, atomically."""
        layers = {
            name: {"digest": digest_of(cut.outputs), **_to_json(cut), "ranks": list(self.ranks.get(name, ()))}
            for name, cut in self.layers.items()
        }
        values = {
            "schema": PLAN_SCHEMA,
            "model_sha256": self.model_sha256,
            "settings": self.settings,
            **({"edited": True} if self.edited else {}),
            "layers": layers,
            "norms": {name: _to_json(cut) for name, cut in self.norms.items()},
        }
        # Not indented by json: each channel would have a line of its own.
        write_text(path, "{\n" + ",\n".join(_lines(values)) + "\n}\n")

    @staticmethod
    def load(path: Path) -> PrunePlan:
        """Read a plan as it was written, without edits by hand.

        Raises:
            SlimError: no plan, one of another schema, or with keys and values that a plan can't have, all named.
        """
        return PrunePlan.from_json(read_plan(path))

    @staticmethod
    def from_json(values: PlanJson) -> PrunePlan:
        """The plan in the JSON value of :func:`read_plan`."""
        return PrunePlan(
            model_sha256=values["model_sha256"],
            settings=values["settings"],
            layers={name: _from_json(cut) for name, cut in values["layers"].items()},
            norms={name: _from_json(cut) for name, cut in values["norms"].items()},
            ranks={name: tuple(cut["ranks"]) for name, cut in values["layers"].items() if cut.get("ranks")},
            edited=bool(values.get("edited", False)),
        )


def read_plan(path: Path) -> PlanJson:
    """Read a plan's JSON value and check every key and type.

    Raises:
        SlimError: no such file, no plan, one of another schema, or keys and values that a plan can't have, all named.
    """
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise SlimError(f"Plan not found: {path}", remedy="Make one with `yolo-slim plan make`.") from None
    except ValueError as error:
        raise SlimError(f"{path}: not JSON: {error}.", remedy="Correct the edit, or make the plan again.") from None
    schema = values.get("schema") if isinstance(values, dict) and "layers" in values else None
    if not isinstance(schema, int):
        raise SlimError(f"{path}: not a prune plan.", remedy="Give the plan.json of `yolo-slim prune`.")
    if schema != PLAN_SCHEMA:
        newer = schema > PLAN_SCHEMA
        raise SlimError(
            f"{path}: a prune plan of {'newer' if newer else 'older'} schema {schema}; this yolo_slim reads "
            f"{PLAN_SCHEMA}.",
            remedy="Update yolo_slim." if newer else "Make it again with `yolo-slim plan make`.",
        )
    if isinstance(values.get("settings"), dict):
        # Plans that were written before a setting was renamed stay usable.
        values["settings"] = {PruneConfig.renamed.get(key, key): value for key, value in values["settings"].items()}
    if problems := list(_problems(values)):
        raise SlimError(
            f"{path}: keys or values that a plan can't have.",
            culprits=problems,
            remedy="Correct the edit, or make the plan again with `yolo-slim plan make`.",
        )
    return cast("PlanJson", values)


def _problems(values: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with a plan's JSON value by itself, without its model."""
    yield from _unknown("", values, PLAN_KEYS)
    if not isinstance(values.get("model_sha256"), str):
        yield f"model_sha256: got {values.get('model_sha256')!r}; expected the SHA-256 of the model's file"
    if type(values.get("edited", False)) is not bool:
        yield f"edited: got {values['edited']!r}; expected true or false"
    yield from _setting_problems(values.get("settings"))
    for key, known in (("layers", LAYER_KEYS), ("norms", CUT_KEYS)):
        rows = values.get(key)
        if not isinstance(rows, dict):
            yield f"{key}: expected an object with a row for each of the {key}"
            continue
        for name, row in rows.items():
            yield from _row_problems(name, row, known)


def _unknown(where: str, values: Mapping[str, object], known: Sequence[str]) -> Iterator[str]:
    """The keys that nothing reads, with the nearest one that something does."""
    for key in values:
        if key not in known:
            yield f"{where}{key}: unknown key.{did_you_mean(key, known)}"


def _setting_problems(settings: Any) -> Iterator[str]:
    """What is wrong with the settings beside those of :class:`PruneConfig`, which has a check of its own."""
    if not isinstance(settings, dict):
        yield "settings: expected the settings of the cut"
        return
    yield from _unknown("settings.", settings, SETTING_KEYS)
    for key, least in (("imgsz", 1), ("seed", 0)):
        value = settings.get(key)
        if type(value) is not int or value < least:
            yield f"settings.{key}: got {value!r}; expected a whole number from {least}"
    if type(settings.get("end2end")) is not bool:
        yield f"settings.end2end: got {settings.get('end2end')!r}; expected true or false"


def _row_problems(name: str, row: Any, known: Sequence[str]) -> Iterator[str]:
    """What is wrong with one layer's or normalisation's line; ``keep`` is checked where edits are read."""
    if not isinstance(row, dict):
        yield f"{name}: expected its lists of channels"
        return
    yield from _unknown(f"{name}.", row, known)
    for key in ("outputs", "inputs") if "inputs" in row else ("outputs",):
        width = row.get(f"{key}_before")
        if type(width) is not int or width < 1:
            yield f"{name}: {key}_before is {width!r}, expected a number"
        elif not is_choice(row.get(key), width):
            yield f"{name}: {key} must be increasing numbers from 0 to {width - 1}, at least one"
    width, ranks = row.get("outputs_before"), row.get("ranks", [])
    if not isinstance(ranks, list) or not all(type(rank) is int and rank >= 0 for rank in ranks):
        yield f"{name}: ranks must be numbers, 0 for the dearest channel"
    elif ranks and len(ranks) != width:
        yield f"{name} has {len(ranks)} ranks for {width} channels"


def is_choice(kept: Any, width: int) -> bool:
    """Whether a JSON value is a non-empty increasing list of channels."""
    # By type(), because true and false are int in Python.
    if not isinstance(kept, list) or not kept or not all(type(i) is int and 0 <= i < width for i in kept):
        return False
    return all(a < b for a, b in pairwise(kept))


def digest_of(outputs: Iterable[int]) -> str:
    """Short digest of a list of kept outputs: a list that doesn't fit it was edited by hand."""
    return hashlib.sha256(json.dumps(list(outputs)).encode()).hexdigest()[:8]


def _lines(values: Mapping[str, object]) -> list[str]:
    """A plan's top-level entries as JSON texts, layers and normalisations one a line, so that people can edit them."""
    entries = []
    for key, value in values.items():
        text = json.dumps(value)
        if key in ("layers", "norms") and isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(cut)}" for name, cut in value.items())
            text = f"{{\n{rows}\n}}"
        entries.append(f"{json.dumps(key)}: {text}")
    return entries


def _to_json(cut: LayerCut) -> dict[str, object]:
    values: dict[str, object] = {"outputs_before": cut.outputs_before, "outputs": list(cut.outputs)}
    if cut.inputs is not None:
        values |= {"inputs_before": cut.inputs_before, "inputs": list(cut.inputs)}
    return values


def _from_json(values: LayerJson) -> LayerCut:
    inputs = values.get("inputs")
    return LayerCut(
        outputs=tuple(values["outputs"]),
        outputs_before=values["outputs_before"],
        inputs=None if inputs is None else tuple(inputs),
        inputs_before=values.get("inputs_before"),
    )


def ranks_of(graph: ChannelGraph, scores: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Rank of each output within its space, of every layer that writes channels of its own."""
    place = {}
    for space in graph.spaces:
        if not space.frozen:
            order = space.channels[np.argsort(-scores[space.channels], kind="stable")]
            place.update({int(label): rank for rank, label in enumerate(order.tolist())})
    # A depthwise layer keeps what its input keeps, so it has no ranks of its own.
    return {
        # Frozen channels have no place; they get 0, the dearest.
        name: tuple(place.get(label, 0) for label in site.outputs.tolist())
        for name, site in graph.convs.items()
        if not site.depthwise and any(label in place for label in site.outputs.tolist())
    }


def kept_labels(graph: ChannelGraph, slots: list[Slot], keep: np.ndarray, scores: np.ndarray) -> set[int]:
    """The labels that stay: in every space those with the highest scores, equal scores by position."""
    kept: set[int] = set()
    for slot, count in zip(slots, keep.astype(int).tolist(), strict=True):
        for i in slot.spaces:
            channels = graph.spaces[i].channels
            order = np.argsort(-scores[channels], kind="stable")
            kept.update(channels[order[:count]].tolist())
    return kept


def make_plan(graph: ChannelGraph, kept: set[int], model_sha256: str, settings: PlanSettings) -> PrunePlan:
    """Turn a set of labels that stay into the cut of every convolution and normalisation."""
    # Labels outside of all spaces, the image's, stay whatever is decided.
    decided = {label for space in graph.spaces for label in space.channels.tolist()}

    def indices(labels: np.ndarray) -> tuple[int, ...]:
        return tuple(i for i, label in enumerate(labels.tolist()) if label in kept or label not in decided)

    # Depthwise and grouped layers have no input dimension to narrow: their weights have one channel, or stay.
    layers = {
        name: LayerCut(
            outputs=indices(site.outputs),
            outputs_before=len(site.outputs),
            inputs=None if site.depthwise or site.groups > 1 else indices(site.inputs),
            inputs_before=None if site.depthwise or site.groups > 1 else len(site.inputs),
        )
        for name, site in graph.convs.items()
    }
    norms = {
        name: LayerCut(outputs=indices(labels), outputs_before=len(labels)) for name, labels in graph.norms.items()
    }
    return PrunePlan(model_sha256=model_sha256, settings=settings, layers=layers, norms=norms)


def compose(first: PrunePlan, second: PrunePlan) -> PrunePlan:
    """The one cut that equals ``first`` and then ``second``, in channels of the model before both."""
    layers = {name: _compose(first.layers[name], cut) for name, cut in second.layers.items()}
    norms = {name: _compose(first.norms[name], cut) for name, cut in second.norms.items()}
    ranks = {
        name: _compose_ranks(first.ranks[name], first.layers[name].outputs, second.ranks[name])
        for name in first.ranks
        if name in second.ranks
    }
    # By the first plan's model: it is the one that a replay starts from.
    return PrunePlan(model_sha256=first.model_sha256, settings=first.settings, layers=layers, norms=norms, ranks=ranks)


def _compose_ranks(first: tuple[int, ...], kept: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Ranks by ``second`` of the channels that it still saw; the others keep the rank by which they were removed."""
    # Removed channels ranked below all that stayed, so both lists together are one order.
    ranks = list(first)
    for channel, rank in zip(kept, second, strict=True):
        ranks[channel] = rank
    return tuple(ranks)


def _compose(first: LayerCut, second: LayerCut) -> LayerCut:
    """One layer's cut of a composed plan."""
    inputs = None
    if first.inputs is not None and second.inputs is not None:
        inputs = tuple(first.inputs[i] for i in second.inputs)
    return LayerCut(
        outputs=tuple(first.outputs[i] for i in second.outputs),
        outputs_before=first.outputs_before,
        inputs=inputs,
        inputs_before=first.inputs_before,
    )
