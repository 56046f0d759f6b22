"""What an emulated processor adds to a verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Collection

from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import Profile
from yolo_slim.devices.emulated.processors import PROCESSORS, processor_for
from yolo_slim.devices.emulated.root import PREPARE
from yolo_slim.measuring.emulated import Emulated, EmulatedBuild
from yolo_slim.verdict.result import Gate, Result

EMULATED_GATE = "emulated:"
"""Beginning of the gate's name; the build follows."""


def failed_builds(emulated: Emulated | None) -> list[BuildName]:
    """The slim builds that crashed there or found something else."""
    return [one.key.build for one in emulated.builds if one.key.is_slim and one.status == "fail"] if emulated else []


def emulated_gates(emulated: Emulated | None, others: Collection[BuildName] = ()) -> list[Gate]:
    """Judge the slim bundles that were emulated, except those of ``others``: builds that didn't win.

    The control's bundle isn't judged. It shows whether a fault is the device's or the slim model's.
    """
    slim = [one for one in emulated.builds if one.key.is_slim] if emulated else []
    return [_gate(one) for one in slim if one.key.build not in others]


def _gate(build: EmulatedBuild) -> Gate:
    """The limit is no problem at all."""
    value = None if build.status == "unproven" else float(len(build.problems))
    return Gate(
        name=f"{EMULATED_GATE}{build.key.build}", rung=None, limit=0, value=value, unit="problems",
        status=build.status, reason="; ".join(build.problems[:3]),
    )  # fmt: skip


def emulation_note(emulated: Emulated | None, profile: Profile, *, on_target: bool, device_name: str) -> list[str]:
    """Say what is missing where the target's processor could be emulated and wasn't.

    On an emulated device itself the bundles ran as on any device, and nothing compares them with those here.
    """
    processor = processor_for(profile)
    if emulated or on_target or processor is None:
        return []
    unproven = f"that the bundles work on a {processor.label}, and find there what they find here, is unproven"
    if device_name in PROCESSORS:
        return [f"{unproven}: run again without --host {device_name}, which compares both"]
    return [f"{unproven}: `{PREPARE}` once, then run again (emulate.mode auto)"]


def proof(result: Result) -> str:
    """What an emulated processor proved of the winner, in a few words; empty: nothing."""
    emulated = result.emulated
    build = emulated.build(result.winner) if emulated else None
    if emulated is None or build is None or build.status != "pass" or result.target.is_measured:
        return ""
    return f"accuracy proven on an emulated {emulated.processor} ({len(emulated.images)} images), speed unproven"
