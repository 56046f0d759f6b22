"""What the emulated processors say of themselves."""

from __future__ import annotations

import pytest

from yolo_slim.config import targets
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.devices.commands import CommandDevice
from yolo_slim.devices.emulated.processors import PROCESSORS, processor_for
from yolo_slim.devices.emulated.root import model_text


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
def test_it_is_never_the_board(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile that names a board takes an emulated device for it, so no timing there can pass a gate."""
    facts = DeviceFacts(model=model_text(PROCESSORS[name], "7.2"), arch="aarch64", cores=4)

    class Shell:
        def facts(self) -> DeviceFacts:
            return facts

    device = CommandDevice(Shell())  # type: ignore[arg-type]
    assert not any(device.is_target(targets.load(target)) for target in ("rpi4", "rpi5"))
