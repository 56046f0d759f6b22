"""What is compared on what: known before anything is measured."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.comparison.device import Meter
from yolo_slim.comparison.equal_latency import AtBudget
from yolo_slim.comparison.result import About, ModelFile, Scored, SharedTraining, Target
from yolo_slim.config.run import RunConfig
from yolo_slim.files import JsonObject, flat, sha256
from yolo_slim.preparation import Run
from yolo_slim.training.settings import with_effect


def settings_of(config: RunConfig, data_digest: str) -> JsonObject:
    """Everything that must be equal for two networks to be compared: model, data and settings, by dotted keys."""
    # Where bundles run, and what else is proven there, decides no accuracy.
    elsewhere = {"device", "emulate"}
    settings = config.model_dump(
        by_alias=True, exclude={"validate_", "quantize", "block_costs", "latency", "model", "data", *elsewhere}
    )
    # The device of a training changes its duration alone.
    settings["recover"].pop("device")
    settings["recover"] = with_effect(settings["recover"])
    # Which images score decides accuracy; how long is timed doesn't, and speed is never imported.
    settings["validate"] = config.validate_.model_dump(include={"split", "max_images"})
    if config.prune.block_costs:
        settings["prune"]["block_costs"] = sha256(Path(config.prune.block_costs))
    return {"model_sha256": sha256(Path(config.model)), "data_digest": data_digest, **flat(settings)}


def about(
    run: Run, settings: JsonObject, runtimes: tuple[str, ...], meter: Meter, at_budget: AtBudget | None = None
) -> About:
    """Describe a comparison."""
    images, profile = meter.images, run.context.profile
    return About(
        name=run.folder.name,
        command=run.context.command,
        model=ModelFile(file=run.model.name, sha256=settings["model_sha256"]),
        target=Target(name=profile.name, description=profile.description, is_this_machine=meter.is_target),
        data=Scored(yaml=Path(run.config.data).name, split=images.split, images=len(images.paths)),
        settings=settings,
        imgsz=run.config.imgsz,
        training=_training(run, len(run.context.dataset.splits["train"])),
        runtimes=runtimes,
        budget_ms=at_budget.cut.budget_ms if at_budget else None,
        machine=run.context.device.facts().to_json(),
    )


def _training(run: Run, images: int) -> SharedTraining:
    """Describe the training that every method gets."""
    recover = run.config.recover
    share = float(recover.overrides.get("fraction", 1.0))
    return SharedTraining(
        epochs=recover.epochs,
        batch=recover.batch,
        distill=recover.distill,
        overrides=recover.overrides,
        images_seen=recover.epochs * round(share * images),
    )
