"""A small bundle, and the devices that the contract is checked with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.helpers.tiny_detector import build_bundle, scene, write_onnx
from yolo_slim.devices.base import Device
from yolo_slim.devices.local import LocalDevice

DEVICES = {"local": LocalDevice}
"""Every kind of device that a test can have; a new one is added here."""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an ONNX Runtime bundle."""
    folder = tmp_path_factory.mktemp("tiny")
    return build_bundle(write_onnx(folder / "tiny.onnx"), folder / "bundle", "onnxruntime").folder


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
    found: Device = DEVICES[request.param]()
    yield found
    found.close()
