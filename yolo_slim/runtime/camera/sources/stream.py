"""Network streams: RTSP, MJPEG over HTTP and HLS, through the FFmpeg that OpenCV contains.

Not an ``ffmpeg`` program: a bare device has none, and OpenCV's has the same time limits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.machine import cores
from yolo_slim.runtime.camera.frame import Source, SourceLost
from yolo_slim.runtime.camera.sources.address import Address, parse_address
from yolo_slim.runtime.camera.sources.capture import CaptureFeed
from yolo_slim.runtime.camera.sources.hls import HlsFeed, is_hls
from yolo_slim.runtime.camera.sources.newest import NewestFrame
from yolo_slim.runtime.camera.sources.options import SourceOptions, SourceSpec
from yolo_slim.runtime.camera.sources.paced import MakeFrame, PacedSource
from yolo_slim.runtime.camera.sources.probe import check_reachable, check_stream
from yolo_slim.runtime.video import rate_of

VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OPTIONS = "rtsp_transport;tcp"
# Neither nobuffer nor low_delay: with a reader that drains they changed no lag (41 ms), but nobuffer throws away the
# packets of the opening, so that it took 2 s instead of 1 (GStreamer's RTSP server, H.264, 25 FPS, x86).
_MOST_PIXELS_OF_ONE_THREAD = 1920 * 1088
"""FFmpeg holds one frame back for each further decoding thread: the lag was 42 ms with 1, 82 with 2 and 163 with 4.
A larger picture takes all cores, because a decoder that is too slow adds more."""
_QUESTION_S = 3.0
"""Longest wait for the server's answer after FFmpeg failed."""
_one_opening = threading.Lock()
"""The options are read from the environment, which all threads share."""


def open_stream(spec: SourceSpec) -> Source:
    """Open a stream.

    Raises:
        SourceLost: the server can't be reached, or gives nothing: that may pass.
        SlimError: wrong password, or no stream.
    """
    address, ends_s = parse_address(spec.address), monotonic() + spec.options.open_limit_s
    check_reachable(address, spec.options.open_limit_s)
    capture = _open_capture(address, _within(spec, ends_s).options, threads=1)
    if _pixels(capture) > _MOST_PIXELS_OF_ONE_THREAD:
        capture.release()
        capture = _open_capture(address, _within(spec, ends_s).options, threads=cores())
    if not capture.isOpened():
        capture.release()
        raise _why_not(spec, address)
    if _is_recording(spec, capture):
        return PacedSource(name=spec.name, frames=_frames(capture), rate=rate_of(capture))
    feed = HlsFeed if is_hls(address) else CaptureFeed
    return NewestFrame(_within(spec, ends_s), feed(spec.name, capture))


def _within(spec: SourceSpec, ends_s: float) -> SourceSpec:
    """The same stream with what is left of the time for its opening, a second at least."""
    left_s = max(1.0, round(ends_s - monotonic(), 1))
    return replace(spec, options=replace(spec.options, open_limit_s=left_s))


def _why_not(spec: SourceSpec, address: Address) -> SlimError:
    limit_s = spec.options.open_limit_s
    # Asked only now: GStreamer's server answers 503 to whoever comes just after such a question.
    try:
        check_stream(address, min(limit_s, _QUESTION_S))
    except SlimError as error:
        return error
    fact = f"{spec.name} answers, but gives no video that can be read within {limit_s:g} s."
    own = f" {VARIABLE} is set: without it FFmpeg might read it." if os.environ.get(VARIABLE) else ""
    return SourceLost(fact, remedy=f"Check that the URL is that of a video (H.264, H.265 or MJPEG).{own}")


def _pixels(capture: Any) -> float:
    return float(capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def _is_recording(spec: SourceSpec, capture: Any) -> bool:
    """Whether the URL is that of a video file: the server gives it as fast as it is read."""
    return spec.address.startswith("http") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0


def _frames(capture: Any) -> Iterator[MakeFrame]:
    try:
        while (answer := capture.read())[0]:
            yield partial(np.asarray, answer[1])
    finally:
        capture.release()


def _open_capture(address: Address, options: SourceOptions, threads: int) -> Any:
    limits = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(options.open_limit_s * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(options.read_limit_s * 1000)),
        *(cv2.CAP_PROP_N_THREADS, threads),
    ]
    with _over_tcp():
        try:
            return cv2.VideoCapture(address.url, cv2.CAP_FFMPEG, limits)
        except cv2.error:
            # Its own message would show the URL with the password.
            raise SlimError(
                "This OpenCV has no FFmpeg, so it reads no streams.",
                remedy="pip install opencv-python-headless",
                topic="a-stream-cant-be-read",
            ) from None


@contextmanager
def _over_tcp() -> Iterator[None]:
    """Set FFmpeg's options for one opening; the user's own come first."""
    with _one_opening:
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = before or _OPTIONS
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
