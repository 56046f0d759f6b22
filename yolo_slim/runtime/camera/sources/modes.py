"""What a V4L2 device is and which modes it offers, asked of the kernel by ioctl: no program or package is needed.

Structures and codes are those of linux/videodev2.h; they are the same on 32 and 64 bit.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

QUERYCAP, ENUM_FMT, REQBUFS = 0x80685600, 0xC0405602, 0xC0145608
ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0xC02C564A, 0xC034564B
_SIZES = {QUERYCAP: 104, ENUM_FMT: 64, REQBUFS: 20, ENUM_FRAMESIZES: 44, ENUM_FRAMEINTERVALS: 52}
"""Bytes of each call's structure."""
_CAPTURE, _CAPTURE_MPLANE, _HAS_DEVICE_CAPS = 0x1, 0x1000, 0x80000000
_BUFFER_CAPTURE, _MEMORY_MMAP = 1, 1
_DISCRETE = 1

Ioctl = Callable[[int, int, bytearray], object]
"""``fcntl.ioctl``, which changes the bytes in place; it raises OSError."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One picture size of one pixel format."""

    pixel_format: str
    """Four characters, such as ``MJPG`` or ``YUYV``."""
    width: int
    height: int
    rates: tuple[float, ...] = ()
    """Frames per second offered, highest first; empty: unknown, or any in a range."""
    step: tuple[int, int] = (0, 0)
    """Not zero: any size from ``least`` up to this one in these steps."""
    least: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        if self.step != (0, 0):
            size = f"{self.least[0]}x{self.least[1]} to {size}"
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        return f"{size} {self.pixel_format}{f' at {rates} FPS' if rates else ''}"

    def has_size(self, size: tuple[int, int]) -> bool:
        """Whether it offers a width and height."""
        if self.step == (0, 0):
            return size == (self.width, self.height)
        ranges = zip(size, self.least, (self.width, self.height), self.step, strict=True)
        return all(low <= side <= high and (side - low) % max(step, 1) == 0 for side, low, high, step in ranges)

    def has_rate(self, rate: float) -> bool:
        """Whether it offers a frame rate, to a hundredth; where none is listed, it may."""
        return not self.rates or any(abs(rate - offered) < 0.01 * max(offered, 1) for offered in self.rates)


@dataclass(frozen=True, kw_only=True)
class Device:
    """What one /dev/videoN says of itself."""

    driver: str
    card: str
    """The camera's name."""
    is_capture: bool
    """Whether it gives pictures: cameras have other nodes too, for metadata."""
    modes: tuple[Mode, ...]


def ask_device(descriptor: int, ioctl: Ioctl) -> Device:
    """Ask an open device what it is.

    Raises:
        OSError: it is no V4L2 device, or is gone.
    """
    answer = _call(ioctl, descriptor, QUERYCAP, b"")
    driver, card, _, _, capabilities, device_caps = struct.unpack_from("16s32s32sIII", answer)
    caps = device_caps if capabilities & _HAS_DEVICE_CAPS else capabilities
    kind = _BUFFER_CAPTURE if caps & _CAPTURE else 9  # V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
    is_capture = bool(caps & (_CAPTURE | _CAPTURE_MPLANE))
    modes = tuple(_modes(descriptor, ioctl, kind)) if is_capture else ()
    return Device(driver=_text(driver), card=_text(card), is_capture=is_capture, modes=modes)


def is_busy(descriptor: int, ioctl: Ioctl) -> bool:
    """Whether another program takes pictures from an open device."""
    try:
        _call(ioctl, descriptor, REQBUFS, struct.pack("III", 1, _BUFFER_CAPTURE, _MEMORY_MMAP))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def users_of(device: Path) -> list[str]:
    """Other programs that have a device open, such as ``zoom (process 123)``; those of other users stay hidden."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and process.name != str(os.getpid()) and device in _open_files(process):
            found.append(f"{_name_of(process)} (process {process.name})")
    return found


def _open_files(process: Path) -> set[Path]:
    try:
        return {entry.readlink() for entry in (process / "fd").iterdir()}
    except OSError:  # it ended, or is another user's
        return set()


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"


def _modes(descriptor: int, ioctl: Ioctl, kind: int) -> Iterator[Mode]:
    for answer in _listed(ioctl, descriptor, ENUM_FMT, struct.pack("I", kind)):
        code = answer[44:48]
        yield from _sizes(descriptor, ioctl, bytes(code))


def _sizes(descriptor: int, ioctl: Ioctl, code: bytes) -> Iterator[Mode]:
    name = _text(code).strip()
    for answer in _listed(ioctl, descriptor, ENUM_FRAMESIZES, code):
        kind, *numbers = struct.unpack_from("7I", answer, 8)
        if kind == _DISCRETE:
            width, height = numbers[:2]
            rates = tuple(sorted(_rates(descriptor, ioctl, code, width, height), reverse=True))
            yield Mode(pixel_format=name, width=width, height=height, rates=rates)
            continue
        least_w, width, step_w, least_h, height, step_h = numbers
        yield Mode(
            pixel_format=name, width=width, height=height, step=(step_w or 1, step_h or 1), least=(least_w, least_h)
        )
        return


def _rates(descriptor: int, ioctl: Ioctl, code: bytes, width: int, height: int) -> Iterator[float]:
    for answer in _listed(ioctl, descriptor, ENUM_FRAMEINTERVALS, code + struct.pack("II", width, height)):
        kind, numerator, denominator = struct.unpack_from("III", answer, 16)
        if kind != _DISCRETE or not numerator:
            return
        yield round(float(Fraction(denominator, numerator)), 3)


def _listed(ioctl: Ioctl, descriptor: int, code: int, rest: bytes) -> Iterator[bytearray]:
    """Every answer of a call that lists: the kernel counts from 0 and answers EINVAL after the last."""
    for index in range(256):
        try:
            yield _call(ioctl, descriptor, code, struct.pack("I", index) + rest)
        except OSError:
            return


def _call(ioctl: Ioctl, descriptor: int, code: int, content: bytes) -> bytearray:
    answer = bytearray(content.ljust(_SIZES[code], b"\0"))
    ioctl(descriptor, code, answer)
    return answer


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace")
