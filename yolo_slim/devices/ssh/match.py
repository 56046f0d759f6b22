"""Whether a device is the one that a profile describes."""

from __future__ import annotations

from dataclasses import replace

from yolo_slim.config.profile import Profile
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.errors import SlimError
from yolo_slim.runtime.machine_check import Found, compare

ANY_DEVICE = "--any-device"


def differences(facts: DeviceFacts, profile: Profile) -> list[str]:
    """Say what a device surely has otherwise than its profile: processor, model, memory, Jetson Linux.

    Packages and the power mode are the bundle's own check: they can be changed.
    """
    requires = replace(profile.requirements(profile.builds[0].runtime), packages={}, power_mode=None, sm=None)
    memory_mb = getattr(facts, "memory_total_mb", None)
    found = Found(
        arch=facts.arch,
        device_model=facts.model,
        power_mode=None,
        packages={},
        memory_gb=None if memory_mb is None else memory_mb * 1e6 / 2**30,
        sm=None,
        l4t=getattr(facts, "l4t", None),
    )
    return [str(item).replace("this machine", "it") for item in compare(requires, found) if item.is_met is False]


def require_target(name: str, facts: DeviceFacts, profile: Profile) -> None:
    """Refuse a device that its profile doesn't describe.

    Raises:
        SlimError: with every difference.
    """
    if found := differences(facts, profile):
        raise SlimError(
            f"{name} isn't a {profile.name}.",
            culprits=found,
            remedy=f"Give the target that it is (yolo-slim targets), or {ANY_DEVICE}: then its figures prove nothing "
            f"about a {profile.name}, and the verdict is unproven.",
            topic="the-device-isnt-the-target",
        )
