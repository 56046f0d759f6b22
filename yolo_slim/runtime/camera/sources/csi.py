"""CSI cameras: of a Jetson through Argus, of a Raspberry Pi through libcamera.

OpenCV from pip has no GStreamer, and an Argus that hangs inside our process couldn't be ended, so other programs take
the pictures and write raw frames to a pipe.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.machine import device_model, l4t_version
from yolo_slim.runtime.camera.frame import SourceLost
from yolo_slim.runtime.camera.sources.newest import Feed, NewestFrame
from yolo_slim.runtime.camera.sources.options import SourceSpec
from yolo_slim.runtime.camera.sources.pipe import PipeFeed, Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (1280, 720)
RATE = 30.0
_LIBCAMERA_PROGRAMS = ("rpicam-vid", "libcamera-vid")
_INSTALL = (
    "Raspberry Pi: sudo apt install python3-picamera2 (and python3 -m venv --system-site-packages), "
    "or sudo apt install rpicam-apps",
    "Jetson: sudo apt install nvidia-l4t-camera gstreamer1.0-tools",
)
_STRIDE = 64
"""rpicam-vid pads rows to this many pixels, and says so nowhere in its output."""


def open_csi(spec: SourceSpec) -> NewestFrame:
    """Open a CSI camera by its number.

    Raises:
        SourceLost: no such camera, or it is busy.
        SlimError: nothing here can take its pictures, or not of this size.
    """
    return NewestFrame(spec, _way(spec)())


def has_picamera2() -> bool:
    """Whether this Python can import picamera2."""
    return importlib.util.find_spec("picamera2") is not None


def argus_program(spec: SourceSpec) -> Program:
    """The GStreamer pipeline of a Jetson's camera: BGRx frames."""
    width, height = spec.options.size or SIZE
    # Argus' libraries print to standard output, so frames go to descriptor 3, which is our pipe.
    to_pipe = ("sh", "-c", 'exec "$@" 3>&1 1>&2', "sh")
    elements: tuple[tuple[str, ...], ...] = (
        ("nvarguscamerasrc", f"sensor-id={spec.address}", *_argus_exposure(spec)),
        (f"video/x-raw(memory:NVMM),width={width},height={height},framerate={_rate_fraction(spec)}",),
        ("nvvidconv",),
        (f"video/x-raw,format=BGRx,width={width},height={height}",),
        # Without it frames pile up in the pipeline when the machine is busy.
        ("queue", "leaky=downstream", "max-size-buffers=1"),
        ("fdsink", "fd=3", "sync=false"),
    )
    pipeline = [word for element in elements for word in ("!", *element)][1:]
    return Program(
        name="gst-launch-1.0",
        command=[*to_pipe, "gst-launch-1.0", "-q", *pipeline],
        frame_bytes=width * height * 4,
        to_image=partial(_from_bgrx, width=width, height=height),
        remedy="Check the ribbon cable and the camera's device tree overlay (jetson-io.py). If another program used "
        "the camera, restart Argus: sudo systemctl restart nvargus-daemon.",
    )


def libcamera_program(spec: SourceSpec, program: str) -> Program:
    """The command line of a Raspberry Pi's camera: I420 frames.

    Raises:
        SlimError: a size whose rows are padded.
    """
    width, height = spec.options.size or SIZE
    if width % _STRIDE or height % 2:
        fact = f"{program} gives raw pictures whose width is a multiple of {_STRIDE} and whose height is even."
        nearest = f"{max(_STRIDE, round(width / _STRIDE) * _STRIDE)}x{height + height % 2}"
        remedy = f"Ask for {nearest}, or install python3-picamera2, which takes any size."
        raise SlimError(f"{fact} Got {width}x{height}.", remedy=remedy)
    command = [program, "--camera", spec.address, "--timeout", "0", "--nopreview", "--flush"]
    command += ["--width", str(width), "--height", str(height), "--framerate", f"{spec.options.rate or RATE:g}"]
    if spec.options.exposure_ms:
        command += ["--shutter", str(round(spec.options.exposure_ms * 1000))]
    return Program(
        name=program,
        command=[*command, "--codec", "yuv420", "--output", "-"],
        frame_bytes=width * height * 3 // 2,
        to_image=partial(_from_i420, width=width, height=height),
        remedy="Check the ribbon cable, and that no other program uses the camera: rpicam-hello --list-cameras.",
    )


def _way(spec: SourceSpec) -> Callable[[], Feed]:
    """How this machine takes pictures.

    Raises:
        SlimError: it can't.
    """
    if _is_jetson() and shutil.which("gst-launch-1.0"):
        return lambda: PipeFeed(spec.name, argus_program(spec))
    if has_picamera2():
        return lambda: PicameraFeed(spec)
    for program in _LIBCAMERA_PROGRAMS:
        if shutil.which(program):
            return partial(PipeFeed, spec.name, libcamera_program(spec, program))
    raise SlimError(
        "Nothing here can take pictures from a CSI camera.",
        culprits=_INSTALL,
        remedy="Install one.",
        topic="no-pictures-from-a-csi-camera",
    )


def _is_jetson() -> bool:
    # A container on a Jetson may lack the release file, but has the device tree.
    return l4t_version() is not None or "Jetson" in device_model()


class PicameraFeed:
    """A Raspberry Pi's camera through picamera2."""

    def __init__(self, spec: SourceSpec) -> None:
        """Start the camera.

        Raises:
            SourceLost: no such camera, or it is busy.
        """
        self._name = spec.name
        self._camera: Any = None
        try:
            self._camera = importlib.import_module("picamera2").Picamera2(int(spec.address))
            self._start(spec)
        # IndexError: no camera; RuntimeError: busy; ImportError: libcamera is for another Python.
        except Exception as error:
            self.close()
            fact = f"{self._name} can't be opened by picamera2: {type(error).__name__}: {error}"
            remedy = "Check the ribbon cable, and that no other program uses the camera: rpicam-hello --list-cameras."
            raise SourceLost(fact, remedy=remedy) from None

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 BGR."""
        return self._camera.capture_array("main")

    def interrupt(self) -> None:
        """Nothing: picamera2 must be stopped by the thread that reads."""

    def close(self) -> None:
        """Stop and free the camera."""
        if self._camera is not None:
            self._camera.stop()
            self._camera.close()
            self._camera = None

    def _start(self, spec: SourceSpec) -> None:
        controls: dict[str, object] = {"FrameRate": spec.options.rate or RATE}
        if spec.options.exposure_ms:
            controls["ExposureTime"] = round(spec.options.exposure_ms * 1000)
        # "RGB888" is blue, green, red in memory (picamera2 issue 848).
        main = {"size": spec.options.size or SIZE, "format": "RGB888"}
        configuration = self._camera.create_video_configuration(main=main, controls=controls)
        self._camera.configure(configuration)
        self._camera.start()


def _argus_exposure(spec: SourceSpec) -> tuple[str, ...]:
    if spec.options.exposure_ms is None:
        return ()
    nanoseconds = round(spec.options.exposure_ms * 1e6)
    return (f"exposuretimerange={nanoseconds} {nanoseconds}",)


def _rate_fraction(spec: SourceSpec) -> str:
    return f"{round((spec.options.rate or RATE) * 1000)}/1000"


def _from_bgrx(raw: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return cv2.cvtColor(raw.reshape(height, width, 4), cv2.COLOR_BGRA2BGR)


def _from_i420(raw: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return cv2.cvtColor(raw.reshape(height * 3 // 2, width), cv2.COLOR_YUV2BGR_I420)
