"""From what a user calls a device to the device."""

from __future__ import annotations

from yolo_slim.config.profile import Profile
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.base import Device
from yolo_slim.devices.emulated.device import open_emulated
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.inventory import address_of
from yolo_slim.devices.local import LocalDevice
from yolo_slim.progress import Progress, Silent


def require_address(config: DeviceConfig) -> None:
    """Check how the settings name the device, without reaching for it.

    Raises:
        SlimError: it isn't known, and no address.
    """
    if config.host is not None and config.host not in PROCESSORS:
        address_of(config.host)


def connect(config: DeviceConfig, profile: Profile, progress: Progress | None = None) -> Device:
    """Open the device that the settings name, and make it ready for the bundles of a target; none: this machine.

    Raises:
        SlimError: it isn't known, can't be reached or used, or isn't the target.
        MachineError: another run uses it.
    """
    if config.host is None:
        return LocalDevice()
    if config.host in PROCESSORS:
        return open_emulated(config.host)
    # Imported here: asyncssh is an extra.
    from yolo_slim.devices.ssh.device import open_device

    return open_device(address_of(config.host), profile, config, progress or Silent())
