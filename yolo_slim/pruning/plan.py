"""The prune plan: which channels of which layers stay, as JSON that can be read, kept and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.pruning.allocation import Slot
from yolo_slim.pruning.groups import ChannelGraph

PLAN_SCHEMA = 1


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

    def save(self, path: Path) -> None:
        """Write the plan as JSON, atomically."""
        write_json(
            path,
            {
                "schema": PLAN_SCHEMA,
                "model_sha256": self.model_sha256,
                "settings": self.settings,
                "layers": {name: _to_json(cut) for name, cut in self.layers.items()},
                "norms": {name: _to_json(cut) for name, cut in self.norms.items()},
            },
        )

    @staticmethod
    def load(path: Path) -> PrunePlan:
        """Read a plan.

        Raises:
            SlimError: not a plan, or one of a newer schema.
        """
        values = read_json(path)
        if not isinstance(values, dict) or values.get("schema") != PLAN_SCHEMA:
            raise SlimError(
                f"{path}: not a prune plan of schema {PLAN_SCHEMA}.",
                remedy="Make it again with `yolo-slim prune`, or update yolo_slim.",
            )
        return PrunePlan(
            model_sha256=values["model_sha256"],
            settings=values["settings"],
            layers={name: _from_json(cut) for name, cut in values["layers"].items()},
            norms={name: _from_json(cut) for name, cut in values["norms"].items()},
        )


def _to_json(cut: LayerCut) -> dict[str, Any]:
    """Return a cut as JSON values."""
    values: dict[str, Any] = {"outputs_before": cut.outputs_before, "outputs": list(cut.outputs)}
    if cut.inputs is not None:
        values |= {"inputs_before": cut.inputs_before, "inputs": list(cut.inputs)}
    return values


def _from_json(values: dict[str, Any]) -> LayerCut:
    """Return a cut from JSON values."""
    inputs = values.get("inputs")
    return LayerCut(
        outputs=tuple(values["outputs"]),
        outputs_before=values["outputs_before"],
        inputs=None if inputs is None else tuple(inputs),
        inputs_before=values.get("inputs_before"),
    )


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
    return PrunePlan(model_sha256=first.model_sha256, settings=first.settings, layers=layers, norms=norms)


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
