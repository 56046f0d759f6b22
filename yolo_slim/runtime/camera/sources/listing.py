"""The cameras of this machine and their modes."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.sources.modes import Device, Mode

_LIMIT_S = 10
_CAMERA_LINE = re.compile(r"^(\d+) : (\S+) \[(.+?)\]", re.MULTILINE)
_JETSON_DRIVER = "tegra-video"


@dataclass(frozen=True, kw_only=True)
class CameraFacts:
    """One camera found."""

    source: str
    """What to give as ``--source``."""
    name: str
    modes: tuple[Mode, ...] = ()
    problem: str = ""
    """Why it can't be asked; empty: it could."""

    def lines(self) -> list[str]:
        """For people: the camera, then one line a mode."""
        problem = f" ({self.problem})" if self.problem else ""
        return [f"{self.source}: {self.name}{problem}", *[f"  {mode}" for mode in self.modes]]


def list_cameras() -> list[CameraFacts]:
    """Find USB cameras, and CSI cameras of a Jetson or a Raspberry Pi; none is opened for pictures."""
    return [*_v4l2(), *_libcamera()]


def _v4l2() -> Iterator[CameraFacts]:
    # Imported here: it needs OpenCV, which parsing a source doesn't.
    from yolo_slim.runtime.camera.sources import v4l2

    sensors = 0
    for path in v4l2.video_nodes():
        try:
            device = v4l2.examine(path)
        except SlimError as error:
            yield CameraFacts(source=str(path), name="?", problem=f"{error.fact} {error.remedy}".strip())
            continue
        if device.driver == _JETSON_DRIVER:
            yield _jetson(sensors, device)
            sensors += 1
        elif device.is_capture and device.driver not in v4l2.CSI_DRIVERS:
            yield CameraFacts(source=str(path), name=device.card, modes=device.modes)


def _jetson(number: int, device: Device) -> CameraFacts:
    # The sensor's own modes, which Argus scales; their raw pixel format says nothing to people.
    return CameraFacts(source=f"csi:{number}", name=device.card, modes=device.modes)


def _libcamera() -> Iterator[CameraFacts]:
    """Cameras of a Raspberry Pi: through picamera2, or else as its program lists them."""
    try:
        infos = importlib.import_module("picamera2").Picamera2.global_camera_info()
    # Not installed, or libcamera for another Python: whatever it raises, the program can still answer.
    except Exception:
        yield from _listed_by_program()
        return
    for info in infos:
        # libcamera lists USB cameras too; those have been found already.
        if "usb" not in str(info.get("Id", "")).lower():
            yield CameraFacts(source=f"csi:{info.get('Num', 0)}", name=str(info.get("Model", "camera")))


def _listed_by_program() -> Iterator[CameraFacts]:
    program = next(filter(None, map(shutil.which, ("rpicam-hello", "libcamera-hello"))), None)
    if program is None:
        return
    try:
        done = subprocess.run(
            [program, "--list-cameras"], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    for number, model, _ in _CAMERA_LINE.findall(done.stdout + done.stderr):
        yield CameraFacts(source=f"csi:{number}", name=model)
