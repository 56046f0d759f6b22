"""Detections of every network in the same images, through the device's own pre- and post-processing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.backends import engine_builder, options_of
from yolo_slim.build_key import BuildKey
from yolo_slim.bundle import open_bundle
from yolo_slim.devices.base import Placed
from yolo_slim.measuring.networks import Networks, Setup
from yolo_slim.runtime.decode import Detections

if TYPE_CHECKING:
    from yolo_slim.measuring.predict import Infer

Answers = list[Detections]
"""What one network detects, image by image."""


def detect_rungs(networks: Networks, setup: Setup) -> dict[str, Answers]:
    """Run the weights in PyTorch and the graph in ONNX Runtime, by the names of their rungs."""
    # Imported late, here and below: it loads torch, which an up-to-date run doesn't need.
    from yolo_slim.measuring.predict import onnx_infer, torch_infer

    found = {
        rung: _detect(rung, torch_infer(loaded.model, end2end=networks.end2end), networks.layout, setup)
        for rung, loaded in networks.weights.items()
    }
    if networks.onnx:
        found["onnx"] = _detect("onnx", onnx_infer(networks.onnx), networks.layout, setup)
    return found


def place_bundles(networks: Networks, setup: Setup) -> dict[BuildKey, Placed]:
    """Bring the bundles that the device can run to it, and build their engines there."""
    runnable = [key for key, spec in networks.specs.items() if setup.can_run(spec)]
    placed = {key: setup.device.put(networks.bundles[key]) for key in runnable}
    for key, one in placed.items():
        if engine_builder(key.build.runtime):
            setup.progress.say(f"validate: build the engine of {key} on {setup.device.name}")
            setup.device.build(one)
    return placed


def tune_bundles(placed: Mapping[BuildKey, Placed], setup: Setup) -> None:
    """Let the device find how each bundle runs fastest; an engine of its own has nothing to tune."""
    for key, one in placed.items():
        if options_of(key.build.runtime):
            setup.progress.say(f"validate: tune {key} on {setup.device.name}")
            found = setup.device.tune(one, setup.images.folder)
            setup.progress.say(f"validate: {key}: {found}")


def detect_bundles(networks: Networks, placed: Mapping[BuildKey, Placed], setup: Setup) -> dict[BuildKey, Answers]:
    """Let the device run the bundles that it can; of the others, run the graph here."""
    from yolo_slim.measuring.predict import onnx_infer

    found: dict[BuildKey, Answers] = {}
    for key, folder in networks.bundles.items():
        if key in placed:
            found[key] = _detect_on_device(key, placed[key], setup)
        else:
            found[key] = _detect(key, onnx_infer(_graph(folder)), networks.layout, setup)
    return found


def _graph(bundle: Path) -> Path:
    """The ONNX file of a bundle whose engine only its target can build."""
    return open_bundle(bundle).model_path("onnx")


def _detect_on_device(key: BuildKey, placed: Placed, setup: Setup) -> Answers:
    setup.progress.step(f"validate: detect with {key}", 0, 1)
    answers = setup.device.infer(placed, setup.images.folder)
    setup.progress.step(f"validate: detect with {key}", 1, 1)
    return [answer.detections for answer in answers]


def _detect(name: object, infer: Infer, layout: str, setup: Setup) -> Answers:
    from yolo_slim.measuring.predict import detect_all

    return detect_all(
        setup.images.paths,
        infer,
        layout=layout,
        imgsz=setup.imgsz,
        progress=setup.progress,
        text=f"validate: detect with {name}",
    )
