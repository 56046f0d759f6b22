"""Open a device over SSH for the bundles of a target."""

from __future__ import annotations

from yolo_slim.config.profile import Profile
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.commands import CommandDevice
from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.match import require_target
from yolo_slim.devices.ssh.session import Session
from yolo_slim.devices.ssh.shell import SshShell
from yolo_slim.progress import Progress


class SshDevice(CommandDevice):
    """A device over SSH."""

    def __init__(self, shell: SshShell) -> None:
        super().__init__(shell)


def open_device(address: Address, profile: Profile, config: DeviceConfig, progress: Progress) -> SshDevice:
    """Connect, take the lock, compare the device with the profile, and make the environment.

    Raises:
        SlimError: the device can't be reached or used, or isn't the target.
        MachineError: another run uses it.
    """
    session = Session(address=address, progress=progress, waits=config.wait)
    shell = SshShell(session, versions=profile.sdk, offline=config.offline)
    try:
        shell.open()
        if not config.any_device:
            require_target(address.name, shell.facts(), profile)
        shell.prepare(frozenset(choice.runtime for choice in profile.runtimes))
    except BaseException:
        shell.close()
        raise
    return SshDevice(shell)
