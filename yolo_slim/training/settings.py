"""Which settings decide a training. Imports no torch: a finished training is recognised without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_slim.config.run import RecoverConfig

TRAINING_PACKAGES = (
    *("torch", "torchvision", "ultralytics", "numpy", "opencv-python"),
    *("albumentations", "nvidia-modelopt"),
)
"""Packages that compute a training: its network, its loss, its augmented images and its quantizers."""
OF_THE_RECOVERY = {"epochs", "patience", "activation"}
"""Settings of recover that the trainings inside the prune stage replace by their own; they keep the activation."""
WITHOUT_EFFECT = {"activation": "none"}
"""Settings that came later, with the value that trains as before. Such a value is left out of what identifies a
training: earlier trainings, which don't have the setting, stay up to date."""


def settings_of(config: RecoverConfig) -> dict[str, Any]:
    """List the settings that decide a training; the teacher counts by its content, among the inputs."""
    # Where it runs decides nothing but its duration.
    return with_effect(config.model_dump(exclude={"teacher", "device"}))


def with_effect(recover: dict[str, Any]) -> dict[str, Any]:
    """Leave out the settings of recover that are at a value of :data:`WITHOUT_EFFECT`."""
    return {key: value for key, value in recover.items() if WITHOUT_EFFECT.get(key) != value}


def teacher_of(config: RecoverConfig, model: Path) -> Path:
    """Choose the checkpoint that teaches: the one of the settings, else the unpruned model."""
    return Path(config.teacher) if config.teacher else model


def without_teacher(training: RecoverConfig) -> RecoverConfig:
    """Turn distillation off."""
    return training.model_copy(update={"distill": 0.0, "distill_on": "answers", "teacher": None})


def settings_inside_prune(training: RecoverConfig) -> dict[str, Any]:
    """List the settings that decide a training of the prune stage, which has epochs of its own."""
    kept = {key: value for key, value in settings_of(training).items() if key not in OF_THE_RECOVERY}
    return {**kept, "overrides": without_quantizers(training)}


def without_quantizers(training: RecoverConfig) -> dict[str, Any]:
    """Leave quantization-aware training out of Ultralytics' arguments: the next cut would make its ranges wrong."""
    return {key: value for key, value in training.overrides.items() if key != "quantize"}
