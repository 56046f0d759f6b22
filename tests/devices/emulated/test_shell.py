"""How an emulated command ends: with an answer, by a signal, or never. The emulator is a stand-in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny_detector import build_bundle, write_onnx
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import Root, RootFacts
from yolo_slim.devices.emulated.shell import EmulatedShell
from yolo_slim.errors import MachineError, SlimError


@pytest.fixture
def shell(bundle: Path, tmp_path: Path, request: pytest.FixtureRequest) -> EmulatedShell:
    """Return a shell whose emulator is the shell script of the test's parameter, with the bundle on it."""
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\n{request.param}\n")
    qemu.chmod(0o755)
    facts = RootFacts(
        key="k", revision=1, source="debian", qemu=str(qemu), qemu_version="7.2", python="3.11", wheels=(),
        packages=(), size_mb=1, seconds=1,
    )  # fmt: skip
    found = EmulatedShell(PROCESSORS["rpi4-emulated"], Root(tmp_path, facts), timeout_s=0.3)
    found.bundle_path(bundle)
    return found


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("kill -ILL $$", "SIGILL ended the bundle on rpi4-emulated: it has an instruction that a Cortex-A72 doesn't"),
        ("kill -SEGV $$", "SIGSEGV ended the bundle on rpi4-emulated"),
        ("echo broken >&2; exit 2", "ended with status 2"),
    ],
    indirect=["shell"],
)
def test_end_is_named(shell: EmulatedShell, expected: str, bundle: Path) -> None:
    """A signal of the processor is a fault of the bundle, and is named; another status is shown with the last words."""
    with pytest.raises(SlimError, match=expected) as refusal:
        shell.ask("infer", str(bundle))
    assert not isinstance(refusal.value, MachineError)


@pytest.mark.parametrize("shell", ["kill -KILL $$", "exec sleep 60"], indirect=True)
def test_ended_from_outside_says_nothing_of_the_bundle(shell: EmulatedShell, bundle: Path) -> None:
    """A process that the system killed, or that never ends, is a problem of the machine."""
    with pytest.raises(MachineError, match=r"status -9|took more than 0\.3 s"):
        shell.ask("infer", str(bundle))


@pytest.mark.parametrize("shell", ['echo "$PYTHONPATH" >&2; echo "$@" >&2; exit 2'], indirect=True)
def test_nothing_of_this_machine_reaches_it(
    shell: EmulatedShell, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulated Python finds the bundle's own code, whatever this machine's environment is."""
    monkeypatch.setenv("PYTHONPATH", "/of/this/machine")
    with pytest.raises(SlimError) as refusal:
        shell.run("check", str(bundle))
    place, command = refusal.value.culprits[-2:]
    assert (Path(place) / "yolo_slim" / "runtime" / "__main__.py").is_file()
    assert "-cpu cortex-a72 -L" in command
    shell.close()
    assert not Path(place).exists()


@pytest.mark.parametrize("shell", ["exit 0"], indirect=True)
def test_damaged_bundle(shell: EmulatedShell, bundle: Path, tmp_path: Path) -> None:
    """A bundle that lost its wheel is refused, as on a device."""
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    next(damaged.glob("*.whl")).unlink()
    with pytest.raises(SlimError, match="isn't what was built"):
        shell.bundle_path(damaged)


@pytest.mark.parametrize("shell", ["exit 0"], indirect=True)
def test_bundle_without_a_wheel(shell: EmulatedShell, tmp_path: Path) -> None:
    """What contains no code can't prove that it installs."""
    bare = build_bundle(write_onnx(tmp_path / "tiny.onnx"), tmp_path / "bare", "onnxruntime")
    with pytest.raises(SlimError, match="contains no wheel"):
        shell.bundle_path(bare.folder)
