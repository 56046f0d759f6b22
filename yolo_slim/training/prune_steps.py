"""Trainings that belong to the prune stage: sparse training before the cut, recovery between its steps.

Each has a folder and a manifest of its own, so that a killed prune goes on with the last whole step and epoch.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import log_to, use_all_cores
from yolo_slim.progress import Progress
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.training.arguments import RecoverInputs, settings_of, teacher_of, training_arguments
from yolo_slim.training.resume import another_training, epoch_of, is_finished, resumable, resuming, train_guarded
from yolo_slim.workspace.job import Job, read_manifest

OF_RECOVER = {"epochs", "patience"}
"""Settings of recover that the trainings here don't take."""


@dataclass(frozen=True, kw_only=True)
class Phases:
    """What the trainings of one prune share."""

    config: PruneConfig
    training: RecoverConfig
    """Batch, device, distillation and Ultralytics' arguments, as in the recover stage."""
    model: Path
    """The user's checkpoint, which is also the teacher unless ``training`` names one."""
    data: Path
    folder: Path
    """Of the prune stage."""
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Role to SHA-256 of what the prune stage reads."""
    imgsz: int
    seed: int
    progress: Progress

    def require_same(self) -> None:
        """Raise for an unfinished training in the folder that these settings wouldn't go on with; nothing is touched.

        Raises:
            SlimError: its arguments, each with the old and the new value.
        """
        for record in sorted(self.folder.glob("*/**/job.json")):
            folder = record.parent
            if read_manifest(folder) or not (folder / "train" / "weights" / "last.pt").is_file():
                continue
            try:
                found = read_json(record)
                job = self._expected(folder, found["config"], found["inputs"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if found.get("fingerprint") != job.fingerprint:
                raise another_training(found, job)

    def _expected(self, folder: Path, config: dict[str, Any], inputs: dict[str, str]) -> Job:
        """Return the job that these settings have for a folder; what earlier phases make is taken as it was."""
        if folder.name == "sparse":
            return self._sparse_job()
        own = {**self.settings, "step": int(folder.name), "base": config["base"]}
        return self._step_job(folder, own, inputs["previous"])

    def _sparse_job(self) -> Job:
        """Return the job of the training before the cut."""
        own = {key: getattr(self.config, key) for key in ("sparse_epochs", "sparse_strength")}
        inputs = {key: self.inputs[key] for key in ("model", "data")}
        return self._job("prune-sparse", self.folder / "sparse", own, inputs, untaught(self.training))

    def _step_job(self, folder: Path, own: dict[str, Any], previous: str) -> Job:
        """Return the job of a step's recovery."""
        return self._job("prune-step", folder, own, {**self.inputs, "previous": previous}, self.training)

    def sparse(self, loaded: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
        """Return the unpruned network after training with the penalty on its scales (``sparse/sparse.pt``)."""
        job = self._sparse_job()
        weights = job.folder / "sparse.pt"
        if not job.is_done():
            last = resumable(job)
            job.begin()
            training = untaught(self.training)
            before = gamma_of(loaded.model)
            model = self._trained(loaded, self.model, training, job, self.config.sparse_epochs, last)
            checkpoint.save(weights, loaded, model)
            job.finish([weights], {"gamma": {"before": before, "after": gamma_of(model)}})
            shutil.rmtree(job.folder / "train")
        return checkpoint.load(weights, (loaded.task,))

    def steps(self, pruner: Pruner, base: checkpoint.Checkpoint) -> tuple[nn.Module, PrunePlan]:
        """Cut and recover in turn; return the network after the last cut, which is not recovered, and the plan."""
        model, plan = base.model, None
        previous = base.sha256
        for index in range(pruner.steps - 1):
            folder = self.folder / "steps" / str(index + 1)
            own = {**self.settings, "step": index + 1, "base": base.sha256}
            job = self._step_job(folder, own, previous)
            if job.is_done():
                self.progress.say(f"prune: step {index + 1} of {pruner.steps} done before, kept")
            else:
                self._step(pruner, base, model, plan, index, job)
            plan = PrunePlan.load(folder / "plan.json")
            pruner.prices = read_json(folder / "state.json")["prices"]
            model = checkpoint.load(folder / "recovered.pt", (base.task,)).model
            previous = sha256(folder / "recovered.pt")
        return model, pruner.cut_step(model, pruner.steps - 1, plan)

    def _step(
        self,
        pruner: Pruner,
        base: checkpoint.Checkpoint,
        model: nn.Module,
        plan: PrunePlan | None,
        index: int,
        job: Job,
    ) -> None:
        """Cut once, recover, and leave both networks and the plan so far in the step's folder."""
        last = resumable(job)
        job.begin()
        pruned, recovered = job.folder / "pruned.pt", job.folder / "recovered.pt"
        # A training that goes on belongs to the cut that it began with, which another machine may not repeat exactly.
        if last is None:
            total = pruner.cut_step(model, index, plan)
            pruner.restat(model, last=False)
            checkpoint.save(pruned, base, model)
            total.save(job.folder / "plan.json")
            write_json(job.folder / "state.json", {"prices": pruner.prices})
        cut = checkpoint.load(pruned, (base.task,))
        trained = self._trained(cut, pruned, self.training, job, self.config.recover_epochs_between, last)
        checkpoint.save(recovered, base, trained)
        job.finish([pruned, recovered, job.folder / "plan.json", job.folder / "state.json"])
        shutil.rmtree(job.folder / "train")

    @property
    def _teacher(self) -> Path:
        """Return the checkpoint that teaches."""
        return teacher_of(self.training, self.model)

    def _job(
        self, stage: str, folder: Path, own: dict[str, Any], inputs: dict[str, str], training: RecoverConfig
    ) -> Job:
        """Return a phase's job."""
        config = {**own, "training": deciding(training), "imgsz": self.imgsz, "seed": self.seed}
        return Job(stage=stage, folder=folder, config=config, inputs=inputs)

    def _trained(
        self,
        loaded: checkpoint.Checkpoint,
        weights: Path,
        training: RecoverConfig,
        job: Job,
        epochs: int,
        last: Path | None,
    ) -> nn.Module:
        """Return the network of ``weights`` after so many epochs, in float32; a killed training goes on at ``last``."""
        from yolo_slim.training.phase import KEPT_FLOAT32

        changes = {
            "epochs": epochs, "patience": epochs, "device": _one(training.device), "overrides": _floating(training),
        }  # fmt: skip
        config = training.model_copy(update=changes)
        data = write_absolute_yaml(load_dataset(self.data), job.folder / "data.yaml")
        given = RecoverInputs(weights=weights, teacher=self._teacher, data=self.data)
        arguments = training_arguments(
            given, config, job.folder, data=data, imgsz=self.imgsz, seed=self.seed, end2end=self.settings["end2end"]
        )
        l1 = self.config.sparse_strength if job.stage == "prune-sparse" else 0.0
        with log_to(job.folder / "train.log"):
            _train(loaded.task, arguments, last, epochs, l1, config.distill_on, self.progress)
        # Ultralytics leaves another number of threads behind, and sums depend on it in their last bits.
        use_all_cores()
        state = torch.load(job.folder / "train" / "weights" / KEPT_FLOAT32, weights_only=True)
        loaded.model.load_state_dict(state)
        return loaded.model


def _train(
    task: str,
    arguments: dict[str, Any],
    last: Path | None,
    epochs: int,
    l1: float,
    distill_on: str,
    progress: Progress,
) -> None:
    """Train, or go on after the last whole epoch, or do nothing where all are done."""
    from yolo_slim.training.phase import phase_trainer

    if last is not None:
        epoch = epoch_of(last)
        if is_finished(epoch, epochs, arguments):
            return
        progress.say(f"prune: training goes on after epoch {epoch + 1} of {epochs}")
        arguments = {**arguments, **resuming(last)}
    trainer = phase_trainer(task, l1, distill_on)(overrides=arguments)
    trainer.add_callback("on_train_epoch_end", lambda t: progress.step("prune: train", t.epoch + 1, t.epochs))
    train_guarded(trainer)


def untaught(training: RecoverConfig) -> RecoverConfig:
    """Return the settings of a training without a teacher."""
    return training.model_copy(update={"distill": 0.0, "distill_on": "answers", "teacher": None})


def deciding(training: RecoverConfig) -> dict[str, Any]:
    """Return the settings that decide a training of the prune stage, which has epochs of its own."""
    settings = settings_of(training)
    own = {key: value for key, value in settings.items() if key not in OF_RECOVER}
    return {**own, "overrides": _floating(training)}


def _floating(training: RecoverConfig) -> dict[str, Any]:
    """Return Ultralytics' arguments without quantizers: the next cut would make their ranges wrong."""
    return {key: value for key, value in training.overrides.items() if key != "quantize"}


def _one(device: str) -> str:
    """Return the first of several GPUs: these trainings are short, and a class made here can't be sent to others."""
    return device.split(",")[0]


def gamma_of(model: nn.Module) -> dict[str, float]:
    """Return the mean |gamma| of all batch normalisations, and the share of them below a hundredth."""
    norms = [m.weight.detach().abs() for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    scales = torch.cat(norms)
    return {"mean": float(scales.mean()), "below_0.01": float((scales < 0.01).float().mean())}
