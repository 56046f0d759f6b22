"""The machine at hand as the device: its commands are processes of this machine, and files stay where they are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from yolo_slim.child_process import own_environment
from yolo_slim.config.record import read_record
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.devices.commands import ANSWERED, CommandDevice, failed
from yolo_slim.files import read_json
from yolo_slim.machine import describe_device


class LocalShell:
    """Processes of the machine that runs this program."""

    name = "this machine"

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""
        return read_record(DeviceFacts, describe_device(), self.name, "")

    def bundle_path(self, bundle: Path) -> str:
        """Leave a bundle where it is."""
        return str(bundle)

    def images_path(self, images: Path) -> str:
        """Leave images where they are."""
        return str(images)

    def file_path(self, file: Path) -> str:
        """Leave a file where it is."""
        return str(file)

    def run(self, *arguments: str) -> None:
        """Run a command of the device here."""
        self._run(arguments, allowed=(0,))

    def ask(self, *arguments: str, option: str = "--json") -> Any:
        """Run a command here and read its answer."""
        with tempfile.TemporaryDirectory(prefix=f"yolo-slim-{arguments[0]}-") as folder:
            out = Path(folder) / "answer.json"
            self._run((*arguments, option, str(out)), allowed=ANSWERED)
            return read_json(out)

    def close(self) -> None:
        """Do nothing: the bundles are the user's own."""

    def _run(self, arguments: tuple[str, ...], allowed: tuple[int, ...]) -> None:
        command = [sys.executable, "-m", "yolo_slim.runtime", *arguments]
        done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
        if done.returncode not in allowed:
            raise failed(self, arguments, done.returncode, done.stderr)


class LocalDevice(CommandDevice):
    """The machine that runs this program."""

    is_here = True

    def __init__(self) -> None:
        super().__init__(LocalShell())
