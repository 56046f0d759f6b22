"""Network streams: RTSP, MJPEG over HTTP and HLS, through the FFmpeg that OpenCV contains.

Not an ``ffmpeg`` program: a bare device has none, and OpenCV's has the same time limits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Source, SourceLost
from yolo_slim.runtime.camera.sources.address import parse_address
from yolo_slim.runtime.camera.sources.capture import CaptureFeed
from yolo_slim.runtime.camera.sources.newest import NewestFrame
from yolo_slim.runtime.camera.sources.options import SourceSpec
from yolo_slim.runtime.camera.sources.paced import MakeFrame, PacedSource
from yolo_slim.runtime.camera.sources.probe import check_server
from yolo_slim.runtime.video import rate_of, readable

VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
_one_opening = threading.Lock()
"""The options are read from the environment, which all threads share."""


def open_stream(spec: SourceSpec) -> Source:
    """Open a stream, after its server was asked whether it gives it.

    Raises:
        SourceLost: the server can't be reached, or gives nothing: that may pass.
        SlimError: wrong password, or no stream.
    """
    limit_s = spec.options.open_limit_s
    check_server(parse_address(spec.address), limit_s)
    capture = _open_capture(spec)
    if not capture.isOpened():
        capture.release()
        fact = f"{spec.name} answers, but gives no video that can be read within {limit_s:g} s."
        raise SourceLost(fact, remedy="Check that the URL is that of a video (H.264, H.265 or MJPEG).")
    if _is_recording(spec, capture):
        return PacedSource(name=spec.name, frames=_frames(capture), rate=rate_of(capture))
    return NewestFrame(spec, CaptureFeed(spec.name, capture))


def _is_recording(spec: SourceSpec, capture: Any) -> bool:
    """Whether the URL is that of a video file: the server gives it as fast as it is read."""
    return spec.address.startswith("http") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0


def _frames(capture: Any) -> Iterator[MakeFrame]:
    try:
        for _, image in readable(capture):
            yield partial(np.asarray, image)
    finally:
        capture.release()


def _open_capture(spec: SourceSpec) -> Any:
    limits = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(spec.options.open_limit_s * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(spec.options.read_limit_s * 1000)),
    ]
    with _low_delay():
        try:
            return cv2.VideoCapture(spec.address, cv2.CAP_FFMPEG, limits)
        except cv2.error:
            # Its own message would show the URL with the password.
            raise SlimError(
                "This OpenCV has no FFmpeg, so it reads no streams.", remedy="pip install opencv-python-headless"
            ) from None


@contextmanager
def _low_delay() -> Iterator[None]:
    """Set FFmpeg's options for one opening; the user's own come first."""
    with _one_opening:
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = before or _OPTIONS
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
