"""Trainings inside the prune stage: sparse training before the first cut, recovery between its steps.

Each has a folder and a manifest of its own, so that an interrupted pruning resumes after the last complete step and
epoch.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import log_to, use_all_cores
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.training.arguments import Training, training_arguments
from yolo_slim.training.record import another_training, begun, last_checkpoint, resumable
from yolo_slim.training.resume import epoch_of, is_finished, resuming, train_guarded
from yolo_slim.training.settings import settings_inside_prune, teacher_of, without_quantizers, without_teacher
from yolo_slim.workspace.job import Job, Made, read_manifest
from yolo_slim.workspace.up_to_date import RunOptions, run_once

SPARSE, STEP = "prune-sparse", "prune-step"


@dataclass(frozen=True, kw_only=True)
class PruneTrainings:
    """What the trainings of one pruning share."""

    config: PruneConfig
    training: RecoverConfig
    """Batch, device, distillation and Ultralytics' arguments, as in the recover stage."""
    model: Path
    """The user's checkpoint, which is also the teacher unless ``training`` names one."""
    dataset: Dataset
    prune_job: Job
    """The prune stage's own job."""
    settings: dict[str, Any]
    """What the plan records: the config with ``imgsz``, ``seed`` and ``end2end``."""
    options: RunOptions

    @property
    def folder(self) -> Path:
        """The prune stage's folder."""
        return self.prune_job.folder

    def require_same(self) -> None:
        """Refuse an unfinished training in the folder that these settings wouldn't resume; nothing is changed.

        Raises:
            SlimError: its settings, each with the old and the new value.
        """
        for record in sorted(self.folder.glob("*/**/job.json")):
            folder, found = record.parent, begun(record.parent)
            if read_manifest(folder) or last_checkpoint(folder) is None:
                continue
            try:
                job = self._expected(folder, found["settings"], found["inputs"])
            except (ValueError, KeyError, TypeError):
                # A record of another shape: resumable() judges it when the training begins.
                continue
            if {key: found.get(key) for key in ("settings", "inputs")} != _request_of(job):
                raise another_training(found, job)

    def _expected(self, folder: Path, settings: dict[str, Any], inputs: dict[str, str]) -> Job:
        """Say which job these settings have for a folder; what earlier trainings made is taken as it was."""
        if folder.name == "sparse":
            return self.sparse_job()
        return self.step_job(folder, int(folder.name), base=settings["base"], previous=inputs["previous"])

    def sparse_job(self) -> Job:
        """Describe the training before the first cut; it has no teacher and reads no block costs."""
        own = {key: getattr(self.config, key) for key in ("sparse_epochs", "sparse_strength")}
        inputs = {key: self.prune_job.inputs[key] for key in ("model", "data")}
        return self._job(SPARSE, self.folder / "sparse", own, inputs, without_teacher(self.training))

    def step_job(self, folder: Path, number: int, *, base: str, previous: str) -> Job:
        """Describe the recovery after a step."""
        inputs = {**self.prune_job.inputs, "previous": previous}
        own = {**self.settings, "step": number, "base": base}
        return self._job(f"{STEP}-{number}", folder, own, inputs, self.training)

    def _job(
        self, stage: str, folder: Path, own: dict[str, Any], inputs: dict[str, str], training: RecoverConfig
    ) -> Job:
        shared = {key: self.settings[key] for key in ("imgsz", "seed")}
        settings = {**own, "training": settings_inside_prune(training), **shared}
        return Job(
            stage=stage, folder=folder, settings=settings, inputs=inputs,
            revision=self.prune_job.revision, packages=self.prune_job.packages,
        )  # fmt: skip

    def sparse(self, loaded: checkpoint.Checkpoint) -> checkpoint.Checkpoint:
        """Train the unpruned network with the penalty on its scales (``sparse/sparse.pt``)."""
        job = self.sparse_job()
        weights = job.folder / "sparse.pt"

        def make(last: Path | None) -> Made:
            before = gamma_of(loaded.model)
            training, epochs = without_teacher(self.training), self.config.sparse_epochs
            model = self._trained(loaded, self.model, training, job, epochs, last)
            checkpoint.save(weights, loaded, model)
            shutil.rmtree(job.folder / "train")
            return Made(outputs=[weights], facts={"gamma": {"before": before, "after": gamma_of(model)}})

        self._once(job, make)
        return checkpoint.load(weights, (loaded.task,))

    def steps(self, pruner: Pruner, base: checkpoint.Checkpoint) -> tuple[nn.Module, PrunePlan]:
        """Cut and recover in turn; the network after the last cut is left for the recover stage."""
        model, plan = base.model, None
        previous = base.sha256
        for index in range(pruner.steps - 1):
            folder = self.folder / "steps" / str(index + 1)
            job = self.step_job(folder, index + 1, base=base.sha256, previous=previous)
            self._step(pruner, base, model, plan, index, job)
            # Read back even if it was just made: after a skipped or resumed step there are only the files.
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
        pruned, recovered = job.folder / "pruned.pt", job.folder / "recovered.pt"

        def make(last: Path | None) -> Made:
            # A training that resumes belongs to the cut that it began with, which another machine may not repeat.
            if last is None:
                total = pruner.cut_step(model, index, plan)
                pruner.restat(model, last=False)
                checkpoint.save(pruned, base, model)
                total.save(job.folder / "plan.json")
                write_json(job.folder / "state.json", {"prices": pruner.prices})
            cut = checkpoint.load(pruned, (base.task,))
            trained = self._trained(cut, pruned, self.training, job, self.config.recover_epochs_between, last)
            checkpoint.save(recovered, base, trained)
            shutil.rmtree(job.folder / "train")
            return Made(outputs=[pruned, recovered, job.folder / "plan.json", job.folder / "state.json"])

        self._once(job, make)

    def _once(self, job: Job, make: Any) -> None:
        """Run a training unless it is finished; an interrupted one resumes."""
        run_once(job, make, self.options, check=lambda: resumable(job, self.options.progress), is_training=True)

    def _trained(
        self,
        loaded: checkpoint.Checkpoint,
        weights: Path,
        training: RecoverConfig,
        job: Job,
        epochs: int,
        last: Path | None,
    ) -> nn.Module:
        """Train the network of ``weights`` for so many epochs, and return it in float32."""
        from yolo_slim.training.phase import KEPT_FLOAT32

        changes = {
            "epochs": epochs, "patience": epochs, "device": _first_of(training.device),
            "overrides": without_quantizers(training),
        }  # fmt: skip
        config = training.model_copy(update=changes)
        given = Training(
            weights=weights, teacher=teacher_of(self.training, self.model),
            data=write_absolute_yaml(self.dataset, job.folder / "data.yaml"), folder=job.folder,
            **{key: self.settings[key] for key in ("imgsz", "seed", "end2end")},
        )  # fmt: skip
        l1 = self.config.sparse_strength if job.stage == SPARSE else 0.0
        with log_to(job.folder / "train.log"):
            self._train(loaded.task, training_arguments(given, config), config, last, l1)
        # Ultralytics leaves another number of threads behind, and sums depend on it in their last bits.
        use_all_cores()
        state = torch.load(job.folder / "train" / "weights" / KEPT_FLOAT32, weights_only=True)
        loaded.model.load_state_dict(state)
        return loaded.model

    def _train(self, task: str, arguments: dict[str, Any], config: RecoverConfig, last: Path | None, l1: float) -> None:
        """Train, resume after the last complete epoch, or do nothing where all are done."""
        from yolo_slim.training.phase import phase_trainer

        progress = self.options.progress
        if last is not None:
            epoch = epoch_of(last)
            if is_finished(epoch, config.epochs, arguments):
                return
            progress.say(f"prune: training resumes after epoch {epoch + 1} of {config.epochs}")
            arguments = {**arguments, **resuming(last)}
        trainer = phase_trainer(task, l1, config.distill_on)(overrides=arguments)
        trainer.add_callback("on_train_epoch_end", lambda t: progress.step("prune: train", t.epoch + 1, t.epochs))
        train_guarded(trainer)


def _request_of(job: Job) -> dict[str, Any]:
    """Take the parts of a job's identity that the user's request decides."""
    return {key: job.identity[key] for key in ("settings", "inputs")}


def _first_of(device: str) -> str:
    """Choose the first of several GPUs: these trainings are short, and a class made here can't be sent to others."""
    return device.split(",")[0]


def gamma_of(model: nn.Module) -> dict[str, float]:
    """Measure the mean |gamma| of all batch normalisations, and the share of them below a hundredth."""
    norms = [m.weight.detach().abs() for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    scales = torch.cat(norms)
    return {"mean": float(scales.mean()), "below_0.01": float((scales < 0.01).float().mean())}
