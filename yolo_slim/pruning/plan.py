"""The prune plan: which channels of which layers stay, as JSON that can be read, edited, kept and replayed.

:mod:`yolo_slim.pruning.planning` reads what a person changed in it and holds the result against the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_text
from yolo_slim.pruning.allocation import Slot
from yolo_slim.pruning.groups import ChannelGraph

PLAN_SCHEMA = 2


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
    settings: dict[str, Any]
    layers: dict[str, LayerCut]
    norms: dict[str, LayerCut]
    ranks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Layer to the rank of each of its unpruned outputs among the channels that can stand in for it; 0 is dearest."""

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
            "layers": layers,
            "norms": {name: _to_json(cut) for name, cut in self.norms.items()},
        }
        write_text(path, "{\n" + ",\n".join(_lines(values)) + "\n}\n")

    @staticmethod
    def load(path: Path) -> PrunePlan:
        """Read a plan as it is written, edits by hand aside.

        Raises:
            SlimError: no plan, one of another schema, or a layer without its lists.
        """
        values = read_plan(path)
        try:
            _check_settings(values["settings"])
            return PrunePlan(
                model_sha256=values["model_sha256"],
                settings=values["settings"],
                layers={name: _from_json(cut) for name, cut in values["layers"].items()},
                norms={name: _from_json(cut) for name, cut in values["norms"].items()},
                ranks={name: _ranks(name, cut) for name, cut in values["layers"].items() if cut.get("ranks")},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SlimError(
                f"{path}: damaged: {type(error).__name__} {error}.", remedy="Make the plan again."
            ) from None


def read_plan(path: Path) -> dict[str, Any]:
    """Return a plan's JSON value.

    Raises:
        SlimError: no such file, no plan, or one of another schema.
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
    return values


def _check_settings(settings: dict[str, Any]) -> None:
    """Raise for settings of a cut that aren't there or of another type.

    Raises:
        TypeError: with the key, what it is and what was expected.
    """
    for key, kind in (("imgsz", int), ("seed", int), ("end2end", bool)):
        if type(settings.get(key)) is not kind:
            wanted = "true or false" if kind is bool else "a whole number"
            raise TypeError(f"settings.{key} is {settings.get(key)!r}, expected {wanted}")


def digest_of(outputs: Iterable[int]) -> str:
    """Return a short digest of a list of kept outputs, by which an edit by hand is known."""
    return hashlib.sha256(json.dumps(list(outputs)).encode()).hexdigest()[:8]


def _lines(values: dict[str, Any]) -> list[str]:
    """Return a plan's top-level entries as JSON texts, layers and normalisations one a line."""
    entries = []
    for key, value in values.items():
        text = json.dumps(value)
        if key in ("layers", "norms"):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(cut)}" for name, cut in value.items())
            text = f"{{\n{rows}\n}}"
        entries.append(f"{json.dumps(key)}: {text}")
    return entries


def _to_json(cut: LayerCut) -> dict[str, Any]:
    """Return a cut as JSON values."""
    values: dict[str, Any] = {"outputs_before": cut.outputs_before, "outputs": list(cut.outputs)}
    if cut.inputs is not None:
        values |= {"inputs_before": cut.inputs_before, "inputs": list(cut.inputs)}
    return values


def _ranks(name: str, values: dict[str, Any]) -> tuple[int, ...]:
    """Return a layer's ranks.

    Raises:
        ValueError: more or less of them than the unpruned layer has channels.
    """
    if len(values["ranks"]) != values["outputs_before"]:
        raise ValueError(f"{name} has {len(values['ranks'])} ranks for {values['outputs_before']} channels")
    return tuple(values["ranks"])


def _from_json(values: dict[str, Any]) -> LayerCut:
    """Return a cut from JSON values.

    Raises:
        TypeError: a width that is no number.
    """
    inputs = values.get("inputs")
    if type(values["outputs_before"]) is not int:
        raise TypeError(f"outputs_before is {values['outputs_before']!r}, expected a number")
    return LayerCut(
        outputs=tuple(values["outputs"]),
        outputs_before=values["outputs_before"],
        inputs=None if inputs is None else tuple(inputs),
        inputs_before=values.get("inputs_before"),
    )


def ranks_of(graph: ChannelGraph, scores: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return for every layer that writes channels of its own the rank of each output within its space."""
    place = {}
    for space in graph.spaces:
        if not space.frozen:
            order = space.channels[np.argsort(-scores[space.channels], kind="stable")]
            place.update({int(label): rank for rank, label in enumerate(order.tolist())})
    return {
        name: tuple(place.get(label, 0) for label in site.outputs.tolist())
        for name, site in graph.convs.items()
        if not site.depthwise and any(label in place for label in site.outputs.tolist())
    }


def kept_labels(graph: ChannelGraph, slots: list[Slot], keep: np.ndarray, scores: np.ndarray) -> set[int]:
    """Return the labels that stay: in every space those with the highest scores, equal scores by position."""
    kept: set[int] = set()
    for slot, count in zip(slots, keep.astype(int).tolist(), strict=True):
        for i in slot.spaces:
            channels = graph.spaces[i].channels
            order = np.argsort(-scores[channels], kind="stable")
            kept.update(channels[order[:count]].tolist())
    return kept


def make_plan(graph: ChannelGraph, kept: set[int], model_sha256: str, settings: dict[str, Any]) -> PrunePlan:
    """Return the cut of every convolution and normalisation for a set of labels that stay."""
    governed = {label for space in graph.spaces for label in space.channels.tolist()}

    def indices(labels: np.ndarray) -> tuple[int, ...]:
        return tuple(i for i, label in enumerate(labels.tolist()) if label in kept or label not in governed)

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
    """Return the one cut that equals ``first`` and then ``second``, in channels of the model before both."""
    layers = {name: _compose(first.layers[name], cut) for name, cut in second.layers.items()}
    norms = {name: _compose(first.norms[name], cut) for name, cut in second.norms.items()}
    ranks = {
        name: _compose_ranks(first.ranks[name], first.layers[name].outputs, second.ranks[name])
        for name in first.ranks
        if name in second.ranks
    }
    return PrunePlan(model_sha256=first.model_sha256, settings=first.settings, layers=layers, norms=norms, ranks=ranks)


def _compose_ranks(first: tuple[int, ...], kept: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Return ranks in which the channels that ``second`` ranks anew come before those that were gone by then."""
    ranks = list(first)
    for channel, rank in zip(kept, second, strict=True):
        ranks[channel] = rank
    return tuple(ranks)


def _compose(first: LayerCut, second: LayerCut) -> LayerCut:
    """Return one layer's cut of a composed plan."""
    inputs = None
    if first.inputs is not None and second.inputs is not None:
        inputs = tuple(first.inputs[i] for i in second.inputs)
    return LayerCut(
        outputs=tuple(first.outputs[i] for i in second.outputs),
        outputs_before=first.outputs_before,
        inputs=inputs,
        inputs_before=first.inputs_before,
    )
