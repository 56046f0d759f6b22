"""USB cameras: what the kernel says of them, the modes that are chosen, and what is said where one can't be used."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.v4l2 import METADATA, FakeCamera
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import SourceLost
from yolo_slim.runtime.camera.sources import SourceOptions, SourceSpec, list_cameras, open_source, parse_source, v4l2
from yolo_slim.runtime.camera.sources import modes as v4l2_modes
from yolo_slim.runtime.camera.sources.modes import ask_device

FORMATS = {
    b"YUYV": {(640, 480): [30.0, 15.0], (1280, 720): [10.0]},
    b"MJPG": {(640, 480): [30.0], (1280, 720): [30.0, 29.97]},
}
CODES = ("QUERYCAP", "ENUM_FMT", "ENUM_FRAMESIZES", "ENUM_FRAMEINTERVALS", "REQBUFS")


class FakeCapture:
    """Stands for cv2.VideoCapture of a camera that follows every wish."""

    is_there = True
    refused: tuple[int, ...] = ()
    shape = (720, 1280, 3)

    def __init__(self, address: str, backend: int) -> None:
        assert backend == cv2.CAP_V4L2
        self.properties: dict[int, float] = {}
        self.is_released = False
        type(self).last = self  # type: ignore[attr-defined]

    def isOpened(self) -> bool:
        """Whether the camera could be opened."""
        return self.is_there

    def set(self, key: int, value: float) -> bool:
        """Take a wish."""
        self.properties[key] = value
        return key not in self.refused

    def get(self, key: int) -> float:
        """What was wished."""
        return self.properties.get(key, 0)

    def read(self) -> tuple[bool, Any]:
        """A frame."""
        return not self.is_released, np.zeros(self.shape, np.uint8)

    def release(self) -> None:
        """Free it."""
        self.is_released = True


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    """Plug in a camera as /dev/video0 of a machine that has nothing else."""
    camera = FakeCamera(FORMATS)
    (tmp_path / "video0").touch()
    monkeypatch.setattr(v4l2, "DEV", tmp_path)
    monkeypatch.setattr(v4l2, "system_ioctl", lambda: camera.ioctl)
    monkeypatch.setattr(cv2, "VideoCapture", type("Own", (FakeCapture,), {}))
    return camera


def spec(tmp_path: Path, **options: Any) -> SourceSpec:
    """Describe the camera that is plugged in."""
    node = str(tmp_path / "video0")
    return SourceSpec(kind="usb", address=node, name=node, options=SourceOptions(**options))


def test_layout_is_the_kernels(tmp_path: Path) -> None:
    """Codes contain the sizes of the structures, and are those of linux/videodev2.h."""
    if not shutil.which("gcc") or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("needs gcc and linux/videodev2.h")
    values = ", ".join(f"VIDIOC_{name}" for name in CODES)
    source = f'#include <linux/videodev2.h>\n#include <stdio.h>\nint main(){{printf("%x %x %x %x %x", {values});}}'
    (tmp_path / "a.c").write_text(source)
    subprocess.run(["gcc", "-w", "-o", tmp_path / "a", tmp_path / "a.c"], check=True)
    said = subprocess.run([tmp_path / "a"], capture_output=True, text=True, check=True).stdout
    assert [int(word, 16) for word in said.split()] == [getattr(v4l2_modes, name) for name in CODES]


def test_modes() -> None:
    """Every size of every format is listed with its rates."""
    device = ask_device(0, FakeCamera(FORMATS).ioctl)
    assert (device.card, device.driver, device.is_capture) == ("Test Cam", "uvcvideo", True)
    assert [str(mode) for mode in device.modes] == [
        "640x480 YUYV at 30, 15 FPS",
        "1280x720 YUYV at 10 FPS",
        "640x480 MJPG at 30 FPS",
        "1280x720 MJPG at 30, 29.97 FPS",
    ]


def test_stepwise_sizes() -> None:
    """A range of sizes takes the sizes on its steps, and no others."""
    (mode,) = ask_device(0, FakeCamera({b"YUYV": {}}, stepwise=(32, 640, 32, 32, 480, 16)).ioctl).modes
    assert str(mode) == "32x32 to 640x480 YUYV"
    sizes = [(32, 32), (320, 240), (640, 480), (641, 480), (650, 480), (16, 32), (64, 40)]
    assert [mode.has_size(size) for size in sizes] == [True, True, True, False, False, False, False]


def test_list(camera: FakeCamera, tmp_path: Path) -> None:
    """A camera is listed with its modes."""
    (found,) = list_cameras()
    assert found.lines()[:2] == [f"{tmp_path / 'video0'}: Test Cam", "  640x480 YUYV at 30, 15 FPS"]


def test_list_without_what_gives_no_pictures(camera: FakeCamera) -> None:
    """Nodes for metadata, and those of a Pi's image processor, aren't cameras."""
    camera.caps = METADATA
    assert list_cameras() == []
    camera.caps, camera.driver = 1, b"pispbe"
    assert list_cameras() == []


def test_list_of_a_jetson(camera: FakeCamera) -> None:
    """A Jetson's CSI sensor is listed as what opens it."""
    camera.driver, camera.card = b"tegra-video", b"vi-output, imx219 9-0010"
    assert [(found.source, found.name) for found in list_cameras()] == [("csi:0", "vi-output, imx219 9-0010")]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, None),
        ({"size": (1280, 720)}, "MJPG"),
        ({"size": (1280, 720), "rate": 30}, "MJPG"),
        ({"size": (1280, 720), "rate": 10}, "YUYV"),
        ({"rate": 15}, "YUYV"),
    ],
)
def test_chosen_mode(camera: FakeCamera, tmp_path: Path, options: dict[str, Any], wanted: str | None) -> None:
    """The camera is asked for MJPG where it serves, and for what serves where it doesn't."""
    source = open_source(spec(tmp_path, **options))
    capture = cv2.VideoCapture.last
    fourcc = capture.properties.get(cv2.CAP_PROP_FOURCC)
    assert fourcc == (None if wanted is None else cv2.VideoWriter.fourcc(*wanted))
    assert capture.properties[cv2.CAP_PROP_BUFFERSIZE] == 2
    assert source.read().shape == FakeCapture.shape
    source.close()
    assert capture.is_released
    with pytest.raises(SourceLost):
        source.read()


@pytest.mark.parametrize("options", [{"size": (800, 600)}, {"size": (1280, 720), "rate": 60}])
def test_unknown_mode(camera: FakeCamera, tmp_path: Path, options: dict[str, Any]) -> None:
    """A mode that isn't offered is refused with those that are."""
    with pytest.raises(SlimError, match="doesn't offer") as caught:
        open_source(spec(tmp_path, **options))
    assert "1280x720 MJPG at 30, 29.97 FPS" in caught.value.culprits
    assert not isinstance(caught.value, SourceLost)


def test_size_that_the_driver_changes(camera: FakeCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that gives another size than it says is found out, and the camera is freed."""
    monkeypatch.setattr(FakeCapture, "get", lambda *_: 320)
    with pytest.raises(SlimError, match="was asked for 640x480 and gives 320x320"):
        open_source(spec(tmp_path, size=(640, 480)))
    assert cv2.VideoCapture.last.is_released


def test_exposure(camera: FakeCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time is set in units of 100 microseconds; without one the camera is automatic; refusal is said."""
    for exposure_ms, mode in ((5, 1), (None, 3)):
        open_source(spec(tmp_path, exposure_ms=exposure_ms)).close()
        properties = cv2.VideoCapture.last.properties
        assert properties[cv2.CAP_PROP_AUTO_EXPOSURE] == mode
        assert properties.get(cv2.CAP_PROP_EXPOSURE) == (None if exposure_ms is None else 50)
    monkeypatch.setattr(FakeCapture, "refused", (cv2.CAP_PROP_EXPOSURE,))
    with pytest.raises(SlimError, match="takes no exposure time of 5 ms"):
        open_source(spec(tmp_path, exposure_ms=5))


def test_busy(camera: FakeCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that another program uses is said to be, with the program."""
    monkeypatch.setattr(FakeCapture, "is_there", False)
    camera.is_busy = True
    other = subprocess.Popen(["sleep", "60"], stdin=(tmp_path / "video0").open("rb"))
    try:
        with pytest.raises(SourceLost, match="used by another program") as caught:
            open_source(spec(tmp_path))
    finally:
        other.kill()
        other.wait()
    assert f"sleep (process {other.pid})" in caught.value.culprits
    camera.is_busy = False
    with pytest.raises(SourceLost, match="OpenCV can't open"):
        open_source(spec(tmp_path))


def test_no_camera(camera: FakeCamera, tmp_path: Path) -> None:
    """An absent camera is said with those that there are."""
    absent = str(tmp_path / "video7")
    with pytest.raises(SourceLost, match=r"No camera at .*video7.*video0"):
        open_source(SourceSpec(kind="usb", address=absent, name=absent, options=SourceOptions()))


def test_no_permission(camera: FakeCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not use cameras is told of the group."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SlimError, match=r"No permission.*\n.*usermod -aG video") as caught:
        open_source(spec(tmp_path))
    assert not isinstance(caught.value, SourceLost)


def test_metadata_node_and_csi_sensor(camera: FakeCamera, tmp_path: Path) -> None:
    """A node that gives no pictures is refused; a CSI sensor is sent to where it works."""
    camera.caps = METADATA
    with pytest.raises(SlimError, match="gives no pictures"):
        open_source(spec(tmp_path))
    camera.caps, camera.driver = 1, b"rp1-cfe"
    with pytest.raises(SlimError, match="--source csi"):
        open_source(spec(tmp_path))


def test_no_camera_at_all() -> None:
    """A real file that is no camera, asked through the real ioctl, is refused."""
    with pytest.raises(SlimError, match="/dev/null is no camera"):
        open_source(parse_source("/dev/null", SourceOptions()))


def test_camera_unplugged(camera: FakeCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that gives no more frames is lost, whenever it is asked again."""
    source = open_source(spec(tmp_path))
    monkeypatch.setattr(FakeCapture, "read", lambda _: (False, None))
    with pytest.raises(SourceLost, match="gives no more frames"):
        [source.read() for _ in range(1000)]
    with pytest.raises(SourceLost):
        source.read()
    source.close()
