"""A small bundle, and the devices that the contract is checked with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import pytest

from tests.helpers.tiny_detector import build_bundle, scene, write_onnx
from yolo_slim.bundle import write_bundle_json
from yolo_slim.devices.base import Device
from yolo_slim.devices.emulated.device import open_emulated
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import find_root
from yolo_slim.devices.local import LocalDevice
from yolo_slim.export import device_wheel

DEVICES: dict[str, Callable[[], Device]] = {
    "local": LocalDevice,
    "rpi5-emulated": partial(open_emulated, "rpi5-emulated"),
}
"""Every kind of device that a test can have; a new one is added here."""
UNPREPARED = "needs the emulated system: yolo-slim device prepare"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an ONNX Runtime bundle."""
    folder = tmp_path_factory.mktemp("tiny")
    made = build_bundle(write_onnx(folder / "tiny.onnx"), folder / "bundle", "onnxruntime")
    device_wheel.write(made.folder)
    write_bundle_json(made.folder, made.spec)
    return made.folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three images with a red and a blue square each."""
    folder = tmp_path_factory.mktemp("images")
    for number, size in enumerate((64, 128, 96)):
        cv2.imwrite(str(folder / f"{number}.png"), scene(size, size))
    return folder


@pytest.fixture(params=list(DEVICES))
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Return a device of every kind."""
    if request.param in PROCESSORS and find_root() is None:
        pytest.skip(UNPREPARED)
    found = DEVICES[request.param]()
    yield found
    found.close()
