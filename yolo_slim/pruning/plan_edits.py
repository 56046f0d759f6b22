"""Plans that people read, compare and change: every plan is checked against its model before it is used.

Two edits of a layer are understood: another list of ``outputs``, or ``"keep": 48`` in place of picking channels.
Coupled layers, normalisations and readers follow. A list that a person changed no longer fits the layer's ``digest``,
so edits need no mark of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from yolo_slim.config.run import PruneConfig
from yolo_slim.config.strict import parse
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import read_json
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import Terms, decide_unscored, make_terms
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.magnitude import label_count
from yolo_slim.pruning.plan import PLAN_SCHEMA, LayerCut, PlanJson, PrunePlan, digest_of, make_plan, read_plan
from yolo_slim.pruning.slots import Slot

REMEDY = "Correct the plan, or make a new one with `yolo-slim plan make`."


@dataclass(frozen=True, kw_only=True)
class Edits:
    """What a person changed in a plan."""

    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Layer to its new list of kept outputs."""
    keep: dict[str, int] = field(default_factory=dict)
    """Layer to its new width."""

    def __bool__(self) -> bool:
        return bool(self.outputs or self.keep)

    def names(self) -> list[str]:
        """The edited layers."""
        return [*self.outputs, *self.keep]

    def described(self) -> list[str]:
        """One line for every edit, for people."""
        changed = [f"{name}: outputs changed, {len(outputs)} of them" for name, outputs in self.outputs.items()]
        return [*changed, *(f"{name}: keep {width}" for name, width in self.keep.items())]


def config_of(plan: PrunePlan) -> PruneConfig:
    """The settings that a plan was made with."""
    # A plan records imgsz, seed and end2end beside the settings of the prune.
    values = {k: v for k, v in plan.settings.items() if k in PruneConfig.model_fields}
    return parse(PruneConfig, values, "the plan's settings")


def read(path: Path) -> tuple[PrunePlan, Edits]:
    """Read a plan as it was written, and what a person changed in it.

    Raises:
        SlimError: no plan, or impossible widths; every culprit is named.
    """
    values = read_plan(path)
    return PrunePlan.from_json(values), edits_in(values, path)


def load_for(path: Path, model: nn.Module, model_sha256: str) -> tuple[PrunePlan, Edits]:
    """Read a plan, apply its edits and check the result against the unpruned model.

    Args:
        path: ``plan.json``.
        model: the unpruned network; it isn't changed.
        model_sha256: SHA-256 of its file.

    Raises:
        SlimError: a plan of another model or schema, or impossible widths; every culprit is named.
    """
    plan, edits = read(path)
    _require_model(path, plan, model_sha256)
    graph = trace_channels(model, plan.settings["imgsz"])
    _require_same_layers(graph, plan, path)
    exported = exported_layers(model, end2end=plan.settings["end2end"])
    terms = make_terms(model, graph, config_of(plan), exported, {})
    checked = resolve(graph, terms, plan, edits)
    # Edits change the lists of coupled layers too, so only an unedited file must have the lists that follow.
    if not edits:
        _require_same_lists(path, plan, checked)
    return checked, edits


def _require_model(path: Path, plan: PrunePlan, model_sha256: str) -> None:
    """Raise for a plan of another checkpoint."""
    if plan.model_sha256 != model_sha256:
        raise SlimError(
            f"{path}: the plan was made for another model (SHA-256 {plan.model_sha256[:12]}..., given "
            f"{model_sha256[:12]}...).",
            remedy="Give the checkpoint that it was made for (after sparse training: prune/sparse/sparse.pt), or make "
            "a plan for this one.",
        )


def _require_same_lists(path: Path, plan: PrunePlan, checked: PrunePlan) -> None:
    """Raise for lists that follow from others and were changed by themselves; they have no digest."""
    if checked.layers == plan.layers and checked.norms == plan.norms:
        return
    wrong = [name for name in checked.layers if checked.layers[name] != plan.layers[name]]
    raise SlimError(
        f"{path}: some lists don't follow from the outputs of the layers that write them.",
        culprits=wrong or [name for name in checked.norms if checked.norms[name] != plan.norms[name]],
        remedy="Change `outputs` or `keep` of the writing layer only; inputs and normalisations follow.",
    )


def require_unedited(path: Path, plan: PrunePlan | None = None) -> None:
    """Raise where a plan that a person has edited would be overwritten, unless it is the one to write.

    Args:
        path: ``plan.json`` that is about to be written.
        plan: what will be written there; None: it isn't known yet.

    Raises:
        SlimError: the edits, or that the file is what an edited plan led to.
    """
    if not path.is_file():
        return
    try:
        found, edits = read(path)
        edited = edits.names()
        if found.edited and found != plan:
            edited.append("it is what `yolo-slim plan apply` made of an edited plan")
    except SlimError:
        # A broken file may be somebody's half-done edit.
        edited = [] if _is_older(path) else ["it can't be read as it was written"]
    if edited:
        raise SlimError(
            f"{path} was edited by hand and would be overwritten.",
            culprits=edited,
            remedy="Move it away; `yolo-slim plan apply` prunes by it into another folder (--out).",
        )


def _is_older(path: Path) -> bool:
    """Whether a file is a plan of an older schema, which nobody can use any more."""
    try:
        return int(read_json(path)["schema"]) < PLAN_SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        return False


def edits_in(values: PlanJson, path: Path) -> Edits:
    """Find the edits in the JSON value of :func:`~yolo_slim.pruning.plan.read_plan`.

    Raises:
        SlimError: widths that aren't numbers of the layer's channels, or other than its list has.
    """
    outputs, keep, wrong = {}, {}, []
    for name, cut in values["layers"].items():
        width, kept = cut["outputs_before"], cut["outputs"]
        # Without a digest nobody can say whether the list was edited; _require_same_lists still checks it.
        if "digest" in cut and digest_of(kept) != cut["digest"]:
            outputs[name] = tuple(kept)
        if "keep" not in cut:
            continue
        if type(cut["keep"]) is not int or not 0 < cut["keep"] <= width:
            wrong.append(f"{name}: keep is {cut['keep']!r}, expected a number from 1 to {width}")
        elif name in outputs and len(kept) != cut["keep"]:
            wrong.append(f"{name}: keep is {cut['keep']}, but outputs lists {len(kept)} channels")
        elif name not in outputs:
            keep[name] = cut["keep"]
    if wrong:
        raise SlimError(f"{path}: impossible widths.", culprits=wrong, remedy=REMEDY)
    return Edits(outputs=outputs, keep=keep)


def _require_same_layers(graph: ChannelGraph, plan: PrunePlan, path: Path) -> None:
    """Raise unless plan and model have the same layers of the same widths."""
    layers = {name: len(site.outputs) for name, site in graph.convs.items()}
    norms = {name: len(labels) for name, labels in graph.norms.items()}
    wrong = [*_differing(layers, plan.layers), *_differing(norms, plan.norms)]
    if wrong:
        raise SlimError(f"{path}: plan and model have different layers.", culprits=wrong, remedy=REMEDY)


def _differing(widths: Mapping[str, int], cuts: Mapping[str, LayerCut]) -> Iterator[str]:
    """Layers that only the model or only the plan has, or that have another width in the plan."""
    yield from (f"{name}: not in the plan" for name in widths if name not in cuts)
    for name, cut in cuts.items():
        if name not in widths:
            yield f"{name}: not in the model.{did_you_mean(name, list(widths))}"
        elif widths[name] != cut.outputs_before:
            yield f"{name}: {cut.outputs_before} channels in the plan, {widths[name]} in the model"


def resolve(graph: ChannelGraph, terms: Terms, plan: PrunePlan, edits: Edits) -> PrunePlan:
    """Find the plan that the edits lead to.

    Raises:
        SlimError: coupled layers that disagree, unequal halves of a split, and widths that break a rule, all named.
    """
    slots = decide_unscored(graph, terms)
    work = _Resolver(graph, slots, plan, edits)
    work.read_plan()
    work.read_lists()
    work.read_widths()
    work.follow()
    # The rules are checked on the result, so that an edit is also refused for what it does to coupled layers.
    problems = work.problems + list(_broken_rules(graph, slots, terms, work.kept))
    if problems:
        raise SlimError("The plan asks for impossible widths.", culprits=problems, remedy=REMEDY)
    kept = set(np.flatnonzero(work.kept).tolist())
    edited = plan.edited or bool(edits)
    # Ranks are kept, so that the result can be edited again.
    return replace(make_plan(graph, kept, plan.model_sha256, plan.settings), ranks=plan.ranks, edited=edited)


def _broken_rules(graph: ChannelGraph, slots: list[Slot], terms: Terms, kept: np.ndarray) -> Iterator[str]:
    """Slots whose count is below the floor, no multiple of ``round_to``, or smaller where nothing may go."""
    for slot in slots:
        counts = [int(kept[graph.spaces[i].channels].sum()) for i in slot.spaces]
        count = min(counts)
        if len(set(counts)) > 1:
            yield f"{slot.name}: the parts of a split keep {', '.join(map(str, counts))} channels; they must be equal"
        elif slot.floor == slot.width > count:
            why = next((graph.spaces[i].reason for i in slot.spaces if graph.spaces[i].frozen), None)
            yield f"{slot.name}: keeps {count} of {slot.width}, but must keep all ({why or 'by the plan settings'})"
        elif count < slot.floor:
            yield f"{slot.name}: {count} channels are below its floor of {slot.floor} (min_width, min_share)"
        elif count != slot.width and count % (multiple := slot.multiple(terms.round_to)):
            low = count // multiple * multiple
            yield (
                f"{slot.name}: {count} channels are not a multiple of round_to {terms.round_to}; take "
                f"{low} or {low + multiple}"
            )


class _Resolver:
    """Applies edits to the layers that a person changed and to everything that is coupled to them."""

    def __init__(self, graph: ChannelGraph, slots: list[Slot], plan: PrunePlan, edits: Edits) -> None:
        self.graph, self.slots, self.plan, self.edits = graph, slots, plan, edits
        size = label_count(graph)
        self.kept = np.ones(size, dtype=bool)
        self.problems: list[str] = []
        self.slot_of = np.full(size, -1)
        for s, slot in enumerate(slots):
            for i in slot.spaces:
                self.slot_of[graph.spaces[i].channels] = s
        # Edited lists come before widths, and both before the plan; who decided is kept to name both in a conflict.
        self.decided: dict[int, tuple[str, bool]] = {}
        """Label to the edited layer that decided it, and how."""
        self.wanted: dict[int, tuple[str, int]] = {}
        """Slot to the edited layer that decided its count, and the count."""

    def read_plan(self) -> None:
        """Use what the plan says where nobody edited it; coupled layers must agree."""
        said: dict[int, tuple[str, bool]] = {}
        for name, cut in self.plan.layers.items():
            if name not in self.edits.names():
                self._note(name, cut.outputs, said)
        for label, (_, stays) in said.items():
            self.kept[label] = stays

    def read_lists(self) -> None:
        """Let edited lists decide their channels."""
        for name, outputs in self.edits.outputs.items():
            self._note(name, outputs, self.decided)
        for label, (_, stays) in self.decided.items():
            self.kept[label] = stays

    def _note(self, name: str, outputs: tuple[int, ...], said: dict[int, tuple[str, bool]]) -> None:
        """Note what a layer says about its channels; a layer that says otherwise of the same channel is a problem."""
        stays = np.zeros(len(self.graph.convs[name].outputs), dtype=bool)
        stays[list(outputs)] = True
        for label, stay in zip(self.graph.convs[name].outputs.tolist(), stays.tolist(), strict=True):
            other, before = said.setdefault(label, (name, stay))
            if before != stay:
                what = f"and {other} are coupled and must keep the same channels" if other != name else (
                    "must keep or drop all channels of an attention head together"
                )  # fmt: skip
                self.problems.append(f"{name} {what}")
                return

    def read_widths(self) -> None:
        """Turn ``keep`` of a layer into the count of its slot, and edited lists into the count of theirs."""
        for label, (name, _) in self.decided.items():
            slot = int(self.slot_of[label])
            space = next(i for i in self.slots[slot].spaces if label in self.graph.spaces[i].channels)
            self._want(slot, name, int(self.kept[self.graph.spaces[space].channels].sum()))
        for name, keep in self.edits.keep.items():
            self._want_width(name, keep)

    def _want_width(self, name: str, keep: int) -> None:
        """Turn one layer's ``keep`` into the count of its slot.

        A layer may write several equal parts of one slot (the halves of a split), and channels that must stay.
        """
        # -1: channels of no slot.
        written = self.slot_of[self.graph.convs[name].outputs]
        free = [s for s in np.unique(written).tolist() if s >= 0 and self.slots[s].floor < self.slots[s].width]
        own, rest = (int((written == free[0]).sum()), int((written != free[0]).sum())) if free else (0, 0)
        width = self.slots[free[0]].width if free else 1
        if not free:
            self.problems.append(f"{name}: keep {keep}, but it must keep all channels")
        elif len(free) > 1 or own % width:
            self.problems.append(f"{name}: writes channels of several decisions, so keep is unclear; edit its outputs")
        elif (keep - rest) % (own // width) or keep <= rest:
            parts = f"its {own // width} parts keep equal counts" + (f" and {rest} channels stay" if rest else "")
            self.problems.append(f"{name}: keep {keep} can't be divided: {parts}")
        else:
            self._want(free[0], name, (keep - rest) // (own // width))

    def _want(self, slot: int, name: str, count: int) -> None:
        """Note a slot's count; an edit that says otherwise is a problem."""
        other, before = self.wanted.setdefault(slot, (name, count))
        if before != count:
            what = "has halves that keep" if other == name else f"and {other} must keep equal counts, but ask for"
            text = f"{name} {what} {count} and {before}"
            if text not in self.problems:
                self.problems.append(text)

    def follow(self) -> None:
        """Give every space of an edited slot its count, by the plan's ranks where no list says which."""
        ranks = self._ranks()
        for s, (name, count) in self.wanted.items():
            for i in self.slots[s].spaces:
                channels = self.graph.spaces[i].channels
                if any(label in self.decided for label in channels.tolist()):
                    continue
                if any(label not in ranks for label in channels.tolist()):
                    self.problems.append(f"{name}: the plan has no ranks for what goes with it; edit its outputs")
                    continue
                # By label where ranks are equal, as kept_labels does.
                order = sorted(channels.tolist(), key=lambda label: (ranks[label], label))
                self.kept[channels] = False
                self.kept[order[:count]] = True

    def _ranks(self) -> dict[int, int]:
        """Rank of every label, 0 for the dearest."""
        return {
            label: rank
            for name, ranks in self.plan.ranks.items()
            for label, rank in zip(self.graph.convs[name].outputs.tolist(), ranks, strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """One layer that two plans treat differently."""

    layer: str
    before: int
    """Channels of the unpruned layer."""
    first: int
    second: int
    common: int
    """Channels that both keep."""


def differences(first: PrunePlan, second: PrunePlan) -> list[LayerDifference]:
    """The layers whose kept channels differ.

    Raises:
        SlimError: plans of networks with other layers.
    """
    unshared = sorted(
        name
        for name in {*first.layers, *second.layers}
        if name not in first.layers
        or name not in second.layers
        or first.layers[name].outputs_before != second.layers[name].outputs_before
    )
    if unshared:
        raise SlimError(
            "The plans are for networks with different layers.", culprits=unshared, remedy="Compare plans of one model."
        )
    return [
        LayerDifference(
            layer=name,
            before=cut.outputs_before,
            first=len(cut.outputs),
            second=len(second.layers[name].outputs),
            common=len({*cut.outputs} & {*second.layers[name].outputs}),
        )
        for name, cut in first.layers.items()
        if cut.outputs != second.layers[name].outputs
    ]
