"""A V4L2 camera that isn't there: its answers to ioctl, laid out as linux/videodev2.h says."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from fractions import Fraction

from yolo_slim.runtime.camera.sources.modes import (
    ENUM_FMT,
    ENUM_FRAMEINTERVALS,
    ENUM_FRAMESIZES,
    QUERYCAP,
    REQBUFS,
)

CAPTURE, METADATA, DEVICE_CAPS = 0x1, 0x00800000, 0x80000000


@dataclass
class FakeCamera:
    """Formats to sizes to frame rates, as a camera lists them."""

    formats: dict[bytes, dict[tuple[int, int], list[float]]]
    driver: bytes = b"uvcvideo"
    card: bytes = b"Test Cam"
    caps: int = CAPTURE
    is_busy: bool = False
    stepwise: tuple[int, ...] = ()
    """Least width, greatest width, step, and the same of the height: sizes of every format, instead of a list."""
    is_asked: list[int] = field(default_factory=list)

    def ioctl(self, descriptor: int, code: int, answer: bytearray) -> int:
        """Answer one call in place."""
        self.is_asked.append(code)
        index, *rest = struct.unpack_from("5I", answer)
        if code == QUERYCAP:
            caps = (CAPTURE | METADATA | DEVICE_CAPS, self.caps)
            struct.pack_into("16s32s32s3I", answer, 0, self.driver, self.card, b"usb-1", 0x60000, *caps)
        elif code == REQBUFS:
            if self.is_busy:
                raise OSError(errno.EBUSY, "Device or resource busy")
        elif code == ENUM_FMT and rest[0] == 1 and index < len(self.formats):
            answer[44:48] = list(self.formats)[index]
        elif code == ENUM_FRAMESIZES:
            self._size(answer, index)
        elif code == ENUM_FRAMEINTERVALS:
            rates = self.formats[bytes(answer[4:8])][rest[1], rest[2]]
            if index >= len(rates):
                raise OSError(errno.EINVAL, "Invalid argument")
            interval = 1 / Fraction(rates[index]).limit_denominator(1000)
            struct.pack_into("3I", answer, 16, 1, interval.numerator, interval.denominator)
        else:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 0

    def _size(self, answer: bytearray, index: int) -> None:
        sizes = list(self.formats[bytes(answer[4:8])])
        if self.stepwise and index == 0:
            struct.pack_into("7I", answer, 8, 3, *self.stepwise)
        elif not self.stepwise and index < len(sizes):
            struct.pack_into("3I", answer, 8, 1, *sizes[index])
        else:
            raise OSError(errno.EINVAL, "Invalid argument")
