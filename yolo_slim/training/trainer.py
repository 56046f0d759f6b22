"""Ultralytics' trainers, except that they train exactly the network that they are given.

Stock ``YOLO('pruned.pt').train()`` builds a new model from ``model.yaml`` and copies the weights that fit: a pruned
network silently gets its full width back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import init_seeds, strip_optimizer, strip_qat, unwrap_model

from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import use_all_cores
from yolo_slim.training.distill import distilled
from yolo_slim.training.guards import all_finite, not_finite, out_of_memory
from yolo_slim.training.precision import Float32Criterion, fused

EPOCH_SEEDS = 1000
"""Distance between the seeds of two starts: more than there are processes, whose seeds differ by one."""


class KeepsWidths:
    """Trains a pruned model at its own widths; the first base class beside one of Ultralytics' trainers.

    ``distill_model`` names the teacher and ``dis`` the weight of :func:`~yolo_slim.training.distill.distilled`, which
    replaces Ultralytics' feature distillation unless ``by_features``.
    """

    by_features = False

    amp: Any
    args: Any
    data: Any
    device: torch.device
    ema: Any
    last: Any
    best: Any
    model: Any
    loss: Any
    tloss: Any
    fitness: Any
    epoch: int
    start_epoch: int
    train_loader: Any
    batch_size: int
    _batch_asked: int

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:  # noqa: ARG002
        """Use the loaded network itself, where Ultralytics builds one from its yaml.

        Raises:
            SlimError: no weights, or classes that differ from the data's.
        """
        if weights is None:
            raise SlimError("A pruned network can't be built from a yaml.", remedy="Give its checkpoint (.pt).")
        ours, theirs = dict(weights.names), dict(self.data["names"])  # type: ignore[arg-type]
        if ours != theirs:
            raise SlimError(
                "The classes of model and data differ.",
                culprits=[f"model: {ours}", f"data: {theirs}"],
                remedy="Give the data.yaml that the model was trained with.",
                topic="the-classes-differ",
            )
        _require_keypoints(getattr(weights, "kpt_shape", None), self.data.get("kpt_shape"))
        # A resumed quantization-aware training arrives with its quantizers, which Ultralytics adds once more.
        strip_qat(weights)
        return weights.float()

    def _setup_train(self) -> None:
        """Set up as Ultralytics does, on all cores, and distill by the criterion."""
        teacher = self.args.distill_model
        if not self.by_features:
            # Ultralytics would wrap student and teacher in one model, and save the pair.
            self.args.distill_model = None
        super()._setup_train()  # type: ignore[misc]
        # Put back for the checkpoints, which record the arguments.
        self.args.distill_model = teacher
        if self.start_epoch:
            self._seed_resumed()
        if self.device.type == "cpu":
            self._use_cpu()
        # After Ultralytics' setup, which makes the criterion, and the averaged copy that must not have a teacher.
        if teacher and self.args.dis > 0 and not self.by_features:
            self._distill_from(teacher)

    def _seed_resumed(self) -> None:
        """Show a resumed training other crops and mosaics than before."""
        # Ultralytics seeds every start alike, so the epochs after a kill would repeat the first ones, image by image.
        init_seeds(self.args.seed + 1 + RANK + EPOCH_SEEDS * self.start_epoch, deterministic=self.args.deterministic)
        # The order of the images comes from a generator of the loader's own.
        source = self.train_loader.generator
        source.manual_seed(source.initial_seed() + EPOCH_SEEDS * self.start_epoch)
        self.train_loader.reset()

    def _use_cpu(self) -> None:
        """Train on all cores, channels last and, if ``amp`` is on, in bfloat16."""
        # Ultralytics sets OMP_NUM_THREADS=1 on import, so a CPU training would use one core.
        use_all_cores()
        # It changes the order in memory alone, and is faster on a CPU (docs/benchmarks/training.md).
        for network in (self.model, self.ema.ema):
            network.to(memory_format=torch.channels_last)
        # Ultralytics switches mixed precision off on a CPU while it sets up; switched on again here, its loop uses
        # autocast's type for CPUs, bfloat16.
        self.amp = bool(self.args.amp) and self.args.amp != "fp32"
        if self.amp:
            self.args.amp = True
            student = self._student()
            student.criterion = Float32Criterion(student.criterion)

    def _student(self) -> Any:
        """The network that is trained, with its criterion."""
        student: Any = unwrap_model(self.model)
        if getattr(student, "criterion", None) is None:
            student.criterion = student.init_criterion()
        return student

    def _distill_from(self, teacher: str) -> None:
        """Add the distance to the teacher to the student's criterion."""
        student = self._student()
        network = fused(_teacher_network(Path(teacher)).to(self.device).float())
        if self.device.type == "cpu":
            network = network.to(memory_format=torch.channels_last)
        student.criterion = distilled(student.criterion, network, self.args.dis)

    def optimizer_step(self) -> None:
        """Step as Ultralytics does, but never by a loss that isn't finite, which would spoil weights and their average.

        Raises:
            SlimError: a loss of this step, or of this epoch so far, is NaN or infinite.
        """
        terms = self.tloss.values() if isinstance(self.tloss, dict) else [self.tloss]
        if not all_finite([self.loss, *terms]):
            raise not_finite("loss", self.epoch, Path(self.best))
        super().optimizer_step()  # type: ignore[misc]

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Stop where Ultralytics would resume from ``last.pt`` with the settings that led there.

        Raises:
            SlimError: a weight that isn't finite.
        """
        # Checked by the weights, before they are saved: a finite loss can have gradients that aren't finite, and
        # Ultralytics gives such weights a score of 0 like any bad epoch.
        networks = [self._student(), *([self.ema.ema] if self.ema else [])]
        if not all_finite(weight for network in networks for weight in network.parameters()):
            raise not_finite("network", epoch, Path(self.best))
        return False

    def _build_train_pipeline(self) -> None:
        """Build the data loaders, but only once: the second time would be with a smaller batch than the settings say.

        Raises:
            SlimError: memory ran out; Ultralytics has halved the batch and would continue.
        """
        if getattr(self, "_oom_retries", 0):
            raise out_of_memory(self._batch_asked, self.args.imgsz, self.device)
        self._batch_asked = self.batch_size
        super()._build_train_pipeline()  # type: ignore[misc]

    def save_model(self) -> bool:
        """Save ``last.pt`` and ``best.pt`` so that a kill leaves the previous ones complete."""
        # Ultralytics writes them in place, and a kill while it writes would leave half a file.
        last, best = Path(self.last), Path(self.best)
        self.last, self.best = _partial(last), _partial(best)
        # What a kill has left would be taken for this epoch's best.pt.
        for left in (self.last, self.best):
            left.unlink(missing_ok=True)
        try:
            saved = bool(super().save_model())  # type: ignore[misc]
        finally:
            self.last, self.best = last, best
        # best.pt first: a kill in between repeats the epoch from the old last.pt, and loses no best epoch.
        for final in (best, last):
            if _partial(final).exists():
                _put_in_place(final)
        return saved

    def final_eval(self) -> None:
        """Strip both checkpoints as Ultralytics does, each complete at any time.

        ``best.pt`` isn't validated once more: later stages measure it.
        """
        if RANK in {-1, 0}:
            for path in (Path(self.last), Path(self.best)):
                if path.exists():
                    strip_optimizer(path, s=_partial(path))
                    _put_in_place(path)


class SlimTrainer(KeepsWidths, DetectionTrainer):  # type: ignore[misc]
    """Trains a pruned detection model."""


class SlimSegmentationTrainer(KeepsWidths, SegmentationTrainer):  # type: ignore[misc]
    """Trains a pruned segmentation model."""


class SlimPoseTrainer(KeepsWidths, PoseTrainer):  # type: ignore[misc]
    """Trains a pruned pose model."""


class SlimOBBTrainer(KeepsWidths, OBBTrainer):  # type: ignore[misc]
    """Trains a pruned model of rotated boxes."""


class SlimClassificationTrainer(KeepsWidths, ClassificationTrainer):  # type: ignore[misc]
    """Trains a pruned classifier."""

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """Use the loaded network itself, with the dropout of the settings."""
        model = super().get_model(cfg, weights, verbose)
        for module in model.modules():
            if isinstance(module, nn.Dropout) and self.args.dropout:
                module.p = self.args.dropout
        return model


class SlimFeatureTrainer(SlimTrainer):
    """Trains a pruned detection model with Ultralytics' own distillation."""

    by_features = True


class SlimFeatureSegmentationTrainer(SlimSegmentationTrainer):
    """The same for segmentation."""

    by_features = True


class SlimFeaturePoseTrainer(SlimPoseTrainer):
    """The same for pose."""

    by_features = True


class SlimFeatureOBBTrainer(SlimOBBTrainer):
    """The same for rotated boxes."""

    by_features = True


TRAINERS: dict[str, Any] = {
    "detect": SlimTrainer,
    "segment": SlimSegmentationTrainer,
    "pose": SlimPoseTrainer,
    "obb": SlimOBBTrainer,
    "classify": SlimClassificationTrainer,
}
"""The trainer of every task."""
FEATURE_TRAINERS: dict[str, Any] = {
    "detect": SlimFeatureTrainer,
    "segment": SlimFeatureSegmentationTrainer,
    "pose": SlimFeaturePoseTrainer,
    "obb": SlimFeatureOBBTrainer,
}
"""Those with Ultralytics' own distillation, which compares what the head reads."""


def trainer_of(task: str, distill_on: str) -> Any:
    """The trainer class of a task.

    Raises:
        SlimError: feature distillation of a classifier.
    """
    table = FEATURE_TRAINERS if distill_on == "features" else TRAINERS
    if task not in table:
        raise SlimError(
            f"recover.distill_on: features isn't possible for the task {task}: there is no neck to compare.",
            remedy="Leave recover.distill_on at answers.",
        )
    return table[task]


def _require_keypoints(ours: Sequence[int] | None, theirs: Sequence[int] | None) -> None:
    """Raise where a pose model's points aren't the data's; other tasks have none."""
    if ours is not None and theirs is not None and list(ours) != list(theirs):
        raise SlimError(
            f"The model has keypoints of shape {list(ours)}, the data {list(theirs)}.",
            remedy="Use the data.yaml that the model was trained with.",
        )


def _teacher_network(path: Path) -> nn.Module:
    """The network that teaches, from memory where this process has read the file before."""
    loaded = checkpoint.load(path, checkpoint.TASKS)
    # Only Ultralytics' reader puts the ranges of a quantized network back into its layers.
    return load_checkpoint(path)[0] if loaded.quantization else loaded.model


def _partial(path: Path) -> Path:
    """Where a checkpoint is written before it replaces the previous one."""
    return path.with_name(f".{path.name}.tmp")


def _put_in_place(path: Path) -> None:
    """Replace a checkpoint by its :func:`_partial` file."""
    temporary = _partial(path)
    # On the disk before it has the name: after a power cut the file is the old or the new one, not an empty one.
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
