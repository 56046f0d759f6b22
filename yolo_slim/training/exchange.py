"""The network that a recovery with another activation starts from: exchanged, with new batch-norm statistics."""

from __future__ import annotations

from dataclasses import replace

from yolo_slim.datasets.description import Dataset
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import exchange
from yolo_slim.models.ultralytics import use_all_cores
from yolo_slim.progress import Progress
from yolo_slim.pruning.surgery import reestimate_batchnorm
from yolo_slim.training.arguments import Training
from yolo_slim.training.batches import choose, loader

EXCHANGED = "exchanged.pt"
"""The exchanged network, beside ``train/``. A file, because the processes of several GPUs read it."""
BN_IMAGES, BN_BATCH = 64, 16
"""Training images that the statistics are estimated on, and how many at once."""


def exchanged(
    training: Training, pruned: checkpoint.Checkpoint, activation: str, dataset: Dataset, progress: Progress
) -> Training:
    """Write the network with its activation exchanged, and describe the training that starts from it.

    Every layer's mean and variance follow from the activations before it, so the statistics are estimated anew.
    Training would do that too, but not in layers that it freezes.
    """
    model = checkpoint.load(training.weights, (pruned.task,)).model
    blocks = exchange(model, activation)
    if not blocks:
        progress.say(f"recover: the network has {activation} already")
        return training
    folder = training.folder
    images = choose(dataset.splits.get("train") or [], BN_IMAGES, training.seed)
    batches = loader(pruned.task, dataset, training.imgsz, folder)
    use_all_cores()
    reestimate_batchnorm(model, (batch["img"] for batch in batches(images, BN_BATCH)))
    weights = folder / EXCHANGED
    checkpoint.save(weights, pruned, model)
    progress.say(f"recover: {activation} in place of SiLU in {blocks} blocks")
    return replace(training, weights=weights)
