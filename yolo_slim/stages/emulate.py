"""Bundles of a target -> emulated.json: whether an emulated processor runs them, and finds what is found here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yolo_slim.build_key import BuildKey
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import EmulateConfig, ValidateConfig
from yolo_slim.devices import device_wheel
from yolo_slim.devices.emulated.processors import PROCESSORS, processor_for
from yolo_slim.devices.emulated.root import PREPARE, Root, find_root, require_root
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.measuring.emulated import emulated, emulated_keys
from yolo_slim.measuring.images import sample
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

REVISION = 4
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
    root, processor = _wanted(config, context), processor_for(context.profile)
    if root is None or processor is None:
        return None
    dataset = sample(context.dataset, scoring, config.images)
    chosen = {key: bundles[key] for key in emulated_keys(bundles)}
    path = folder / "emulated.json"
    job = Job(
        stage="emulate",
        folder=folder,
        settings={"device": processor.name, "system": root.facts.key},
        inputs={
            **{str(key): content(bundle / "bundle.json") for key, bundle in chosen.items()},
            "images": dataset.digest,
            "device code": device_wheel.code_digest(),
        },
        revision=REVISION,
        packages=PACKAGES,
    )

    def make(_: None) -> Made:
        write_json(path, emulated(processor.name, chosen, dataset, folder, context.progress).to_json())
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
