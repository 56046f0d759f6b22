"""Test devices: a folder of their own behind a real sshd on loopback, and a home that knows them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.sshd import Sshd
from yolo_slim.config import targets
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices import inventory
from yolo_slim.devices.base import Device
from yolo_slim.devices.connect import connect

FOLDER = 'a device\'s "own" folder'
"""Spaces and quotes, as a user may have them."""
AGENT_WRAPPER = """#!/bin/sh
case "$4" in
*yolo_slim_agent*) exec "@PYTHON@" -I -u -c "@PRELUDE@
$4" ;;
esac
exec "@PYTHON@" "$@"
"""


def fake_python(folder: Path, prelude: str) -> str:
    """Write a ``python3`` whose agent begins with a program of the test's; return the PATH that finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "python3"
    script.write_text(AGENT_WRAPPER.replace("@PYTHON@", sys.executable).replace("@PRELUDE@", prelude))
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@contextmanager
def home_of(folder: Path) -> Iterator[Path]:
    """Make a folder the user's home: ssh configuration, known_hosts and inventory are read there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SSH_AUTH_SOCK"):
            patch.delenv(name, raising=False)
        yield folder


@contextmanager
def ssh_device(folder: Path, sshd: Sshd) -> Iterator[Device]:
    """Open a device whose packages are those of the tests."""
    with home_of(folder / "home") as home:
        sshd.trust(home, "board")
        entry = inventory.Entry(host="board", target="host", folder=str(folder / FOLDER), python=sys.executable)
        inventory.add("desk", entry)
        device = connect(DeviceConfig(host="desk"), targets.load("host"))
    try:
        yield device
    finally:
        device.close()


def leftovers(folder: Path) -> list[str]:
    """List what a run that ended must not leave on a device: processes, temporary files, a lock that is held."""
    found = [str(path) for path in folder.glob("runs/*")]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    if (folder / "lock").is_file():
        with (folder / "lock").open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append("the lock")
    return found
