"""From what a user calls a device to the device."""

from __future__ import annotations

from yolo_slim.devices.base import Device
from yolo_slim.devices.emulated.device import open_emulated
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.local import LocalDevice


def connect(host: str | None) -> Device:
    """Open the device that a user named; None: the machine at hand.

    Raises:
        SlimError: it doesn't answer, or isn't known.
    """
    if host is None:
        return LocalDevice()
    if host in PROCESSORS:
        return open_emulated(host)
    raise NotImplementedError(host)
