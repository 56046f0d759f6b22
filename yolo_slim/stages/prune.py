"""best.pt -> pruned.pt: remove channels down to a share of the MACs, and say which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim import checkpoint, ultra
from yolo_slim.config import PruneConfig
from yolo_slim.data import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.manifest import Job
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.allocation import Slot, allocate_global, allocate_local, make_cost_model, make_slots
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.importance import score
from yolo_slim.pruning.macs import Size, measure
from yolo_slim.pruning.plan import PrunePlan, compose, kept_labels, make_plan
from yolo_slim.pruning.surgery import apply_plan, reestimate_batchnorm
from yolo_slim.training.batches import batches, choose

MAX_MACS_ERROR = 0.03
"""Largest distance between the MACs asked for and got, as a share of the unpruned MACs."""
PER_MAC = 0.5
"""Exponent of the saved MACs in the ranking; 0, .5 and 1 are compared in docs/benchmarks/recovery.md."""
SCORING_GMACS = 210.0
"""Forward passes that scoring may cost in all, in 10^9 MACs: about ten seconds on two cores."""
ROUND_TO = 8
"""Multiple of the widths where neither the settings nor a target say one."""
BN_GMACS = 140.0
"""The same for the batch-normalisation statistics, without backward passes."""


@dataclass(frozen=True, kw_only=True)
class PruneInputs:
    """What the stage reads."""

    model: Path
    """Trained checkpoint."""
    data: Path
    """Ultralytics data set description."""


@dataclass(frozen=True, kw_only=True)
class PruneOutputs:
    """What the stage wrote."""

    weights: Path
    """``pruned.pt``."""
    plan: Path
    """``plan.json``: the channels that stay."""
    widths: Path
    """``widths.json``: width of every convolution before and after, MACs and parameters."""


def outputs_in(folder: Path) -> PruneOutputs:
    """Return where the stage writes."""
    return PruneOutputs(weights=folder / "pruned.pt", plan=folder / "plan.json", widths=folder / "widths.json")


def run(
    inputs: PruneInputs,
    config: PruneConfig,
    out_dir: Path,
    *,
    imgsz: int,
    seed: int = 0,
    end2end: bool = False,
    data_digest: str = "",
    progress: Progress | None = None,
) -> PruneOutputs:
    """Prune a checkpoint; a finished result of the same settings and inputs is kept.

    Args:
        inputs: files to read.
        config: what to remove.
        out_dir: folder of the stage.
        imgsz: input side in pixels: MACs and scores are computed at it.
        seed: seed of the choice of images.
        end2end: yolo26's one-to-one head is the one that will be exported.
        data_digest: digest of the data set, see :func:`yolo_slim.data.digest`.
        progress: listener.

    Raises:
        SlimError: an unusable checkpoint, or MACs that can't be reached.
    """
    progress = progress or Silent()
    loaded = checkpoint.load(inputs.model)
    require_imgsz(imgsz, loaded.stride)
    settings = {**config.model_dump(), "imgsz": imgsz, "seed": seed, "end2end": end2end}
    job = Job(stage="prune", folder=out_dir, config=settings, inputs={"model": loaded.sha256, "data": data_digest})
    outputs = outputs_in(out_dir)
    if job.is_done():
        progress.say("prune: done before, kept")
        return outputs
    job.begin()
    ultra.use_all_cores()
    images = load_dataset(inputs.data).splits.get("train", [])
    before = measure(loaded.model, imgsz, end2end=end2end)
    widths_before = conv_widths(loaded.model)
    pruner = _Pruner(config, imgsz, seed, end2end, images, before, progress)
    plan = pruner.cut(loaded.model, loaded.sha256, settings)
    after = measure(loaded.model, imgsz, end2end=end2end)
    _require_target(before, after, config.macs_removed)
    plan.save(outputs.plan)
    checkpoint.save(outputs.weights, loaded, loaded.model)
    write_json(outputs.widths, width_table(widths_before, loaded.model, before, after))
    job.finish([outputs.weights, outputs.plan, outputs.widths], {"before": before.to_json(), "after": after.to_json()})
    progress.say(
        f"prune: {before.macs / 1e9:.2f} -> {after.macs / 1e9:.2f} GMACs ({1 - after.macs / before.macs:.0%} removed), "
        f"{before.params / 1e6:.2f} -> {after.params / 1e6:.2f} M parameters"
    )
    return outputs


def require_imgsz(imgsz: int, stride: int) -> None:
    """Raise unless the input side is a multiple of the model's largest stride."""
    if imgsz % stride:
        below, above = imgsz // stride * stride, -(-imgsz // stride) * stride
        near = f"{below} or {above}" if below else f"{above}"
        raise SlimError(
            f"imgsz {imgsz} is not a multiple of the model's stride {stride}.", remedy=f"Set IMGSZ to {near}."
        )


def conv_widths(model: nn.Module) -> dict[str, int]:
    """Return the output channels of every convolution by name."""
    return {name: m.out_channels for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def width_table(before: dict[str, int], model: nn.Module, size_before: Size, size_after: Size) -> dict[str, Any]:
    """Return the JSON value of ``widths.json``."""
    after = conv_widths(model)
    layers = [{"layer": name, "before": width, "after": after[name]} for name, width in before.items()]
    return {"control": size_before.to_json(), "slim": size_after.to_json(), "layers": layers}


def _require_target(before: Size, after: Size, removed: float) -> None:
    """Raise unless the MACs fell, and to what was asked."""
    got = 1 - after.macs / before.macs
    if got <= 0:
        raise SlimError(
            "The MACs did not fall: nothing was pruned.",
            remedy="Raise PRUNE, or lower prune.round_to for small models.",
        )
    if abs(got - removed) > MAX_MACS_ERROR:
        raise SlimError(
            f"Asked to remove {removed:.1%} of the MACs, got {got:.1%}: more than {MAX_MACS_ERROR:.0%} apart.",
            remedy="Lower prune.round_to, so that smaller steps are possible.",
        )


@dataclass(frozen=True)
class _Pruner:
    """The cut in rounds: trace, score, allocate, cut, re-estimate; then the next round on what is left."""

    config: PruneConfig
    imgsz: int
    seed: int
    end2end: bool
    images: list[Path]
    before: Size
    progress: Progress

    def cut(self, model: nn.Module, model_sha256: str, settings: dict[str, Any]) -> PrunePlan:
        """Prune ``model`` in place; return the plan in its original channels."""
        total: PrunePlan | None = None
        rounds = self.config.rounds if self.config.criterion != "random" else 1
        full = self._cost_target(model)
        for index in range(rounds):
            self.progress.step("prune: score and cut", index, rounds)
            share = self.config.macs_removed * (index + 1) / rounds
            plan = self._round(model, full * (1 - share), index, model_sha256, settings)
            apply_plan(model, plan)
            total = plan if total is None else compose(total, plan)
            count = self._bn_count() if index == rounds - 1 else self._score_count()
            reestimate_batchnorm(model, self._inputs(count))
        self.progress.step("prune: score and cut", rounds, rounds)
        assert total is not None
        return total

    @property
    def round_to(self) -> int:
        """Return what widths stay multiples of."""
        return self.config.round_to or ROUND_TO

    def _cost_target(self, model: nn.Module) -> float:
        """Return the full MACs in the cost model's own terms."""
        graph = trace_channels(model, self.imgsz)
        slots = self._slots(model, graph, np.ones(1 + max(int(s.outputs.max()) for s in graph.convs.values())))
        keep = np.array([slot.width for slot in slots], dtype=float)
        return make_cost_model(graph, slots, self._counted(model)).macs(keep)

    def _round(
        self, model: nn.Module, target: float, index: int, model_sha256: str, settings: dict[str, Any]
    ) -> PrunePlan:
        """Return the plan of one round."""
        graph = trace_channels(model, self.imgsz)
        scores = self._score(model, graph, index)
        slots = self._slots(model, graph, scores)
        cost = make_cost_model(graph, slots, self._counted(model))
        if self.config.scope == "global":
            keep = allocate_global(slots, cost, target=target, round_to=self.round_to, per_mac=PER_MAC)
        else:
            share = self._head_share(model)
            keep = allocate_local(slots, cost, target=target, round_to=self.round_to, share=share)
        return make_plan(graph, kept_labels(graph, slots, keep, scores), model_sha256, settings)

    def _score(self, model: nn.Module, graph: ChannelGraph, index: int) -> np.ndarray:
        """Return the labels' scores on images of this round's own."""
        with _loss_gains(model):
            chosen = choose(self.images, self._score_count() * (index + 1), self.seed)[-self._score_count() :]
            batch = max(1, min(8, 8 * 320**2 // self.imgsz**2))
            return score(
                model, graph, self.config.criterion, lambda: batches(chosen, self.imgsz, batch), self.seed + index
            )

    def _slots(self, model: nn.Module, graph: ChannelGraph, scores: np.ndarray) -> list[Slot]:
        """Return the decisions, those of the head at the price that its gentleness sets."""
        counted, share = self._counted(model), self._head_share(model)

        def floor(name: str, width: int) -> int:
            return width if not counted(name) or share(name) == 0 else min(width, self.config.min_width)

        slots = make_slots(graph, scores, round_to=self.round_to, floor=floor)
        return [_priced(slot, share(slot.name)) for slot in slots]

    def _head_share(self, model: nn.Module) -> Any:
        """Return the function from a convolution's name to how readily it gives channels up."""
        prefix = _head_prefix(model)
        return lambda name: self.config.head_gentleness if name.startswith(prefix) else 1.0

    def _counted(self, model: nn.Module) -> Any:
        """Return the function that tells by its name whether the exported graph has a convolution."""
        prefix = _head_prefix(model)
        dual = any(name.startswith(f"{prefix}one2one_") for name, _ in model.named_modules())

        def counted(name: str) -> bool:
            if not dual or not name.startswith(prefix):
                return True
            return name.startswith(f"{prefix}one2one_") == self.end2end

        return counted

    def _score_count(self) -> int:
        """Return the images of one round."""
        affordable = SCORING_GMACS / self.config.rounds / (self.before.macs / 1e9)
        return self.config.images or int(np.clip(affordable, 8, 64))

    def _bn_count(self) -> int:
        """Return the images of the last re-estimation."""
        affordable = BN_GMACS / (self.before.macs / 1e9 * (1 - self.config.macs_removed))
        return self.config.bn_images or int(np.clip(affordable, 64, 256))

    def _inputs(self, count: int) -> Iterable[torch.Tensor]:
        """Yield batches of letterboxed training images (N, 3, imgsz, imgsz)."""
        chosen = choose(self.images, count, self.seed + 1)
        for done, batch in enumerate(batches(chosen, self.imgsz, 16)):
            self.progress.step("prune: batch-normalisation statistics", done * 16, len(chosen))
            yield batch["img"]
        self.progress.step("prune: batch-normalisation statistics", len(chosen), len(chosen))


def _head_prefix(model: nn.Module) -> str:
    """Return the start of the names of the detection head's modules."""
    return f"model.{len(model.model) - 1}."  # type: ignore[arg-type]


def _priced(slot: Slot, share: float) -> Slot:
    """Return a slot whose scores weigh more the less readily it gives channels up."""
    if share in (0.0, 1.0):
        return slot
    return Slot(
        name=slot.name, spaces=slot.spaces, width=slot.width, floor=slot.floor, unit_scores=slot.unit_scores / share
    )


class _loss_gains:
    """Give a model the loss gains that its criterion reads; checkpoints carry them as a plain dict, or not at all."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.saved = model.__dict__.get("args")

    def __enter__(self) -> None:
        from ultralytics.cfg import get_cfg

        saved = self.saved if isinstance(self.saved, dict) else getattr(self.saved, "__dict__", {})
        gains = {key: saved[key] for key in ("box", "cls", "dfl") if key in saved}
        self.model.args = get_cfg(overrides=gains)
        self.model.criterion = None  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        self.model.criterion = None  # type: ignore[assignment]
        if self.saved is not None:
            self.model.args = self.saved
