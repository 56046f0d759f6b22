"""What the emulated processors say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_slim.config import targets
from yolo_slim.devices.emulated.device import EmulatedDevice
from yolo_slim.devices.emulated.processors import PROCESSORS, processor_for
from yolo_slim.devices.emulated.root import Root, RootFacts
from yolo_slim.devices.emulated.shell import EmulatedShell


def test_features_are_those_of_the_processor() -> None:
    """A Cortex-A76 multiplies int8 and adds fp16; a Cortex-A72 lists neither, so no runtime tries it there."""
    a72, a76 = (PROCESSORS[name].cpuinfo() for name in ("rpi4-emulated", "rpi5-emulated"))
    for feature in ("asimddp", "asimdhp"):
        assert feature in a76
        assert feature not in a72
    assert a76.count("processor\t:") == a72.count("processor\t:") == 4
    assert "CPU part\t: 0xd0b" in a76
    assert "CPU part\t: 0xd08" in a72


@pytest.mark.parametrize(
    ("target", "name"),
    [("rpi4", "rpi4-emulated"), ("rpi5", "rpi5-emulated"), ("host", None), ("jetson-orin-nano", None)],
)
def test_each_pi_has_its_processor(target: str, name: str | None) -> None:
    """A processor stands for the profiles of its board, by whatever name, and for no other."""
    found = processor_for(targets.load(target).model_copy(update={"name": "mine"}))
    assert (found.name if found else None) == name


@pytest.mark.parametrize("name", list(PROCESSORS))
def test_it_is_never_the_target(name: str) -> None:
    """No profile takes an emulated device for its own, one for any machine neither: nothing there can pass a gate."""
    facts = RootFacts(
        key="k", revision=1, source="debian", qemu="qemu", qemu_version="7.2", python="3.11", wheels=(), packages=(),
        size_mb=1, seconds=1,
    )  # fmt: skip
    device = EmulatedDevice(EmulatedShell(PROCESSORS[name], Root(Path(), facts)))
    own = targets.load("rpi5").model_copy(update={"device_model": "emulated"})
    assert not any(device.is_target(profile) for profile in (*map(targets.load, targets.names()), own))
    device.close()
