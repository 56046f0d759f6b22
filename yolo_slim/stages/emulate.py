"""Bundles of a target -> emulated.json: whether an emulated processor runs them, and finds what is found here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from yolo_slim.build_key import BuildKey
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import EmulateConfig, ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.devices.emulated.processors import PROCESSORS, processor_for
from yolo_slim.devices.emulated.root import PREPARE, Root, find_root, require_root
from yolo_slim.errors import SlimError
from yolo_slim.export import device_wheel
from yolo_slim.files import write_json
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

REVISION = 1
"""Raised when equal inputs are emulated or compared otherwise."""
PACKAGES = ("onnxruntime", "ncnn", "numpy", "opencv-python", "ultralytics")
"""Packages that detect on the workstation, and compute mAP."""


def require_ready(config: EmulateConfig, profile: Profile) -> None:
    """Refuse what can't be emulated, before the first stage.

    Raises:
        SlimError: ``emulate.mode`` is ``always``, and the target has no emulated device, or that isn't prepared.
    """
    if config.mode != "always":
        return
    processor = processor_for(profile)
    if processor is None:
        raise SlimError(
            f"emulate.mode is always, but no emulated device stands for {profile.name}.",
            remedy=f"Set it to auto; emulated are: {', '.join(PROCESSORS)}",
        )
    require_root(processor.name)


def run(
    bundles: Mapping[BuildKey, Path], config: EmulateConfig, scoring: ValidateConfig, folder: Path, context: Context
) -> Path | None:
    """Emulate the bundles, and return the file that says how (:class:`~yolo_slim.measuring.emulated.Emulated`).

    None: the device itself is there, no processor is emulated for the target, or it isn't prepared, which is said.
    """
    from yolo_slim.measuring.emulated import emulated_keys

    root = _wanted(config, context)
    processor = processor_for(context.profile)
    if root is None or processor is None:
        return None
    split, dataset = sample(context.dataset, scoring, config.images)
    chosen = {key: bundles[key] for key in emulated_keys(bundles)}
    path = folder / "emulated.json"
    job = Job(
        stage="emulate",
        folder=folder,
        settings={"device": processor.name, "root": root.facts.key, "split": split},
        inputs={
            **{str(key): content(bundle / "bundle.json") for key, bundle in chosen.items()},
            "images": dataset.digest,
            "device code": device_wheel.code_digest(),
        },
        revision=REVISION,
        packages=PACKAGES,
    )  # fmt: skip

    def make(_: None) -> Made:
        found = _emulated(root, processor.name, chosen, dataset, folder, context)
        write_json(path, {**found, "split": split})
        return Made(outputs=[path])

    run_once(job, make, context, check=lambda: None)
    return path


def _wanted(config: EmulateConfig, context: Context) -> Root | None:
    """The prepared system, where the target shall be emulated; says what to type where it isn't prepared."""
    processor, device = processor_for(context.profile), context.device
    is_here = device.is_target(context.profile) or device.name in PROCESSORS
    if processor is None or is_here or config.mode == "never":
        return None
    root = require_root(processor.name) if config.mode == "always" else find_root()
    if root is None:
        context.progress.say(
            f"emulate: not prepared. `{PREPARE}` (once, about a minute, 300 MB) lets every run prove its bundles on an "
            f"emulated {processor.label}"
        )
    return root


def sample(dataset: Dataset, scoring: ValidateConfig, most: int) -> tuple[str, Dataset]:
    """Up to ``most`` labelled images, at equal distances in those that mAP is measured on, and the split of these."""
    from yolo_slim.measuring.control_check import spread
    from yolo_slim.measuring.images import choose_split

    split = choose_split(dataset, scoring)
    labelled = [path for path in dataset.splits[split][: scoring.max_images or None] if has_labels(path)]
    return split, replace(dataset, splits={"val": spread(labelled, most)}, problems={})


def _emulated(
    root: Root, name: str, bundles: Mapping[BuildKey, Path], dataset: Dataset, folder: Path, context: Context
) -> dict[str, object]:
    """Run the bundles on both sides."""
    from yolo_slim.devices.emulated.device import open_emulated
    from yolo_slim.devices.local import LocalDevice
    from yolo_slim.measuring.emulated import Emulated, Emulation
    from yolo_slim.measuring.images import scored_images

    images = scored_images(dataset, ValidateConfig(split="val"), folder)
    device = open_emulated(name)
    try:
        emulation = Emulation(
            device=device, workstation=LocalDevice(), images=images, names=dataset.names, progress=context.progress
        )
        builds = emulation.measure(bundles)
    finally:
        device.close()
    return Emulated(
        device=name, model=root.model(PROCESSORS[name]), processor=PROCESSORS[name].label, python=root.facts.python,
        packages=root.facts.wheels, split=images.split, images=tuple(path.name for path in images.paths),
        builds=tuple(builds),
    ).to_json()  # fmt: skip
