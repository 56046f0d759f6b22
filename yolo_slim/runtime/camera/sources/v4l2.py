"""USB cameras, through V4L2."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from yolo_slim.errors import MAX_CULPRITS_SHOWN, SlimError
from yolo_slim.runtime.camera.frame import SourceLost
from yolo_slim.runtime.camera.sources.capture import CaptureFeed
from yolo_slim.runtime.camera.sources.modes import Device, Ioctl, Mode, ask_device, is_busy, users_of
from yolo_slim.runtime.camera.sources.newest import NewestFrame
from yolo_slim.runtime.camera.sources.options import SourceOptions, SourceSpec

DEV = Path("/dev")
CSI_DRIVERS = {
    "tegra-video": "the raw CSI sensor of a Jetson",
    "unicam": "the raw CSI receiver of a Raspberry Pi",
    "rp1-cfe": "the raw CSI receiver of a Raspberry Pi",
    "pispbe": "the image processor of a Raspberry Pi",
    "bcm2835-isp": "the image processor of a Raspberry Pi",
    "rpi-hevc-dec": "the video decoder of a Raspberry Pi",
}
"""Drivers of nodes that look like cameras and give no usable pictures: such cameras are opened as ``csi``."""
_BUFFERS = 2
"""One is filled while the other is decoded: with one, OpenCV misses every second frame of a UVC camera."""
_AUTOMATIC, _MANUAL = 3, 1  # V4L2_EXPOSURE_APERTURE_PRIORITY, V4L2_EXPOSURE_MANUAL
_EXPOSURES_PER_MS = 10  # V4L2_CID_EXPOSURE_ABSOLUTE counts 100 microseconds


def open_usb(spec: SourceSpec) -> NewestFrame:
    """Open a USB camera by its /dev path.

    Raises:
        SourceLost: it isn't there, is busy or gives nothing: that may pass.
        SlimError: no permission, no camera, or a mode that it doesn't offer.
    """
    device = examine(Path(spec.address))
    if device.driver in CSI_DRIVERS:
        remedy = "Give --source csi for a camera on the CSI connector."
        raise SlimError(f"{spec.name} is {CSI_DRIVERS[device.driver]}, not a USB camera.", remedy=remedy)
    if not device.is_capture:
        remedy = "Cameras have further nodes, for metadata. --list shows the ones that give pictures."
        raise SlimError(f"{spec.name} ({device.card}) gives no pictures.", remedy=remedy)
    mode = choose_mode(spec, device.modes)
    return NewestFrame(spec, CaptureFeed(spec.name, _open_capture(spec, mode)))


def examine(path: Path) -> Device:
    """Ask a /dev node what it is and offers.

    Raises:
        SourceLost: it isn't there or is busy.
        SlimError: no permission, or no camera.
    """
    with _opened(path) as descriptor:
        try:
            return ask_device(descriptor, system_ioctl())
        except OSError as error:
            raise SlimError(f"{path} is no camera ({error.strerror}).", remedy=_LIST) from None


def choose_mode(spec: SourceSpec, modes: Sequence[Mode]) -> Mode | None:
    """The mode that serves what is asked: with MJPG where it is offered, because USB 2 is too slow for raw pictures.

    None: the camera lists no modes, or the driver's own choice is asked for.

    Raises:
        SlimError: none serves; it lists those that there are.
    """
    options = spec.options
    if not modes or (options.size is None and options.rate is None):
        return None
    fitting = [
        mode
        for mode in modes
        if (options.size is None or mode.has_size(options.size)) and (not options.rate or mode.has_rate(options.rate))
    ]
    if not fitting:
        raise _unknown_mode(spec, modes)
    return min(fitting, key=lambda mode: mode.pixel_format != "MJPG")


def system_ioctl() -> Ioctl:
    """``fcntl.ioctl``; imported here because Windows has no such module."""
    import fcntl

    return fcntl.ioctl


def video_nodes() -> list[Path]:
    """The /dev/videoN of this machine, in the order of their numbers."""
    nodes = [path for path in DEV.glob("video*") if path.name.removeprefix("video").isdecimal()]
    return sorted(nodes, key=lambda path: int(path.name.removeprefix("video")))


_LIST = "--list shows the cameras of this machine."


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise _refused(path, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refused(path: Path, error: OSError) -> SlimError:
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = 'Join the group video: sudo usermod -aG video "$USER", then log out and in again.'
        return SlimError(
            f"No permission to use the camera {path}.", remedy=remedy, topic="no-permission-for-the-camera"
        )
    if error.errno == errno.EBUSY:
        return _busy(path)
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        nodes = ", ".join(str(node) for node in video_nodes())
        fact = f"No camera at {path}. {f'This machine has {nodes}.' if nodes else 'This machine has no /dev/videoN.'}"
        return SourceLost(fact, remedy=f"Plug it in, or give another one. {_LIST}")
    return SourceLost(f"The camera {path} can't be opened: {error.strerror}.", remedy="Unplug it and plug it in again.")


def _busy(path: Path) -> SourceLost:
    users = users_of(path.resolve())
    return SourceLost(f"The camera {path} is used by another program.", culprits=users, remedy="End that program.")


def _unknown_mode(spec: SourceSpec, modes: Sequence[Mode]) -> SlimError:
    size, rate = spec.options.size, spec.options.rate
    asked = [f"{size[0]}x{size[1]}"] if size else []
    asked += [f"{rate:g} FPS"] if rate else []
    lines = [str(mode) for mode in modes]
    # The message must name every mode; what it holds is limited, so that many of them share a line.
    share = -(-len(lines) // MAX_CULPRITS_SHOWN)
    culprits = ["; ".join(lines[start : start + share]) for start in range(0, len(lines), share)]
    return SlimError(f"{spec.name} doesn't offer {' at '.join(asked)}. It offers:", culprits=culprits)


def _open_capture(spec: SourceSpec, mode: Mode | None) -> Any:
    capture = cv2.VideoCapture(spec.address, cv2.CAP_V4L2)
    try:
        if not capture.isOpened():
            raise _not_opened(spec)
        _set_up(capture, spec, mode)
    except SlimError:
        capture.release()
        raise
    return capture


def _not_opened(spec: SourceSpec) -> SlimError:
    path = Path(spec.address)
    with _opened(path) as descriptor:
        if is_busy(descriptor, system_ioctl()):
            return _busy(path)
    return SourceLost(f"OpenCV can't open the camera {spec.name}.", remedy="Unplug it and plug it in again.")


def _set_up(capture: Any, spec: SourceSpec, mode: Mode | None) -> None:
    options = spec.options
    if mode is not None and len(mode.pixel_format) == 4:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*mode.pixel_format))
    if options.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size[1])
    if options.rate:
        capture.set(cv2.CAP_PROP_FPS, options.rate)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
    _set_exposure(capture, spec)
    _check_size(capture, spec)


def _set_exposure(capture: Any, spec: SourceSpec) -> None:
    exposure_ms = spec.options.exposure_ms
    # Cameras remember the setting of the last program.
    is_set = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _AUTOMATIC if exposure_ms is None else _MANUAL)
    if exposure_ms is None:
        return
    if not is_set or not capture.set(cv2.CAP_PROP_EXPOSURE, round(exposure_ms * _EXPOSURES_PER_MS)):
        raise SlimError(f"{spec.name} takes no exposure time of {exposure_ms:g} ms.", remedy="Leave --exposure out.")


def _check_size(capture: Any, spec: SourceSpec) -> None:
    got = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    asked: SourceOptions = spec.options
    if asked.size and got != asked.size:
        fact = f"{spec.name} was asked for {asked.size[0]}x{asked.size[1]} and gives {got[0]}x{got[1]}."
        raise SlimError(fact, remedy=f"Ask for a size that it offers. {_LIST}")
