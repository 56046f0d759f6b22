"""A small bundle, and the devices that the contract is checked with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import cv2
import pytest

from tests.helpers.ssh_device import ssh_device
from tests.helpers.sshd import Sshd, why_not
from tests.helpers.tiny_detector import build_bundle, scene, write_onnx
from yolo_slim.bundle import write_bundle_json
from yolo_slim.devices import device_wheel
from yolo_slim.devices.base import Device
from yolo_slim.devices.emulated.device import open_emulated
from yolo_slim.devices.emulated.root import find_root
from yolo_slim.devices.local import LocalDevice

Opened = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[Device]]


def _emulated(_: pytest.FixtureRequest, __: Path) -> AbstractContextManager[Device]:
    """Open an emulated board; where none is prepared the test is skipped."""
    if find_root() is None:
        pytest.skip(UNPREPARED)
    return closing(open_emulated("rpi5-emulated"))


DEVICES: dict[str, Opened] = {
    "local": lambda _, __: closing(LocalDevice()),
    "ssh": lambda request, folder: ssh_device(folder, request.getfixturevalue("sshd")),
    "rpi5-emulated": _emulated,
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


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Return a server on loopback; without OpenSSH the test is skipped."""
    if why := why_not():
        pytest.skip(why)
    server = Sshd(tmp_path_factory.mktemp("sshd")).start()
    yield server
    server.stop()


@pytest.fixture(params=list(DEVICES), scope="module")
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Return a device of every kind."""
    with DEVICES[request.param](request, tmp_path_factory.mktemp("device")) as found:
        yield found
