"""What a device says of itself before anything is installed: whether it can be used, and whether its clock is right."""

from __future__ import annotations

from yolo_slim.devices.ssh.address import CHOOSE_FOLDER
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject

MOST_SKEW_S, HOPELESS_SKEW_S = 60.0, 6 * 3600.0
"""A clock that is further off is mentioned; one that is so far off keeps TLS from trusting a package index."""


def require_usable(name: str, about: JsonObject) -> None:
    """Refuse a device on which no runtime can be installed."""
    if about["system"] != "Linux" or about["bits"] != 64:
        raise SlimError(
            f"{name} runs a {about['bits']}-bit {about['system']}; the runtimes have packages for 64-bit Linux only.",
            remedy="Raspberry Pi: write a card with the 64-bit system (Raspberry Pi Imager), then try again.",
        )
    if about["is_noexec"]:
        raise SlimError(
            f"Programs can't be run from {about['folder']} on {name}: it is mounted with noexec.",
            remedy=f"Choose a folder on another disk: {CHOOSE_FOLDER}",
        )


def clock_warnings(name: str, skew_s: float) -> list[str]:
    """Say that a clock is wrong."""
    if abs(skew_s) < MOST_SKEW_S:
        return []
    amount = f"{abs(skew_s) / 3600:.1f} hours" if abs(skew_s) > 2 * 3600 else f"{abs(skew_s) / 60:.0f} minutes"
    text = (
        f"device: the clock of {name} is {amount} {'ahead' if skew_s > 0 else 'behind'}; dates in its records are wrong"
    )
    if abs(skew_s) > HOPELESS_SKEW_S:
        text += ", and downloads may fail: set it (sudo timedatectl set-ntp true), or give --offline"
    return [text]
