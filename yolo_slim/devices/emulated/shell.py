"""Start a device's commands under QEMU. It shares this machine's files, so nothing but the code that runs is copied."""

from __future__ import annotations

import shlex
import signal
import subprocess
import tempfile
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

from yolo_slim.bundle import Bundle, open_bundle
from yolo_slim.devices import device_wheel
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.devices.commands import ANSWERED, failed
from yolo_slim.devices.emulated.processors import CORES, Processor
from yolo_slim.devices.emulated.root import GUEST, Root
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json
from yolo_slim.machine import cores
from yolo_slim.runtime import selfcheck

TIMEOUT_S = 1800.0
"""Longest duration of one command. A frame of 640 px takes up to a minute."""


class EmulatedShell:
    """Processes of an emulated processor."""

    def __init__(self, processor: Processor, root: Root, timeout_s: float = TIMEOUT_S) -> None:
        self.processor, self.root, self.timeout_s = processor, root, timeout_s
        self._installed: dict[str, Path] = {}
        self._place = tempfile.TemporaryDirectory(prefix="yolo-slim-emulated-")

    @property
    def name(self) -> str:
        """What people call the device."""
        return self.processor.name

    def facts(self) -> DeviceFacts:
        """Say what is emulated. More threads than this machine has cores would only wait for each other."""
        about = {
            "model": self.root.model(self.processor),
            "arch": "aarch64",
            "cores": min(CORES, cores()),
            "python": self.root.facts.python,
            "packages": list(self.root.facts.wheels),
        }
        return DeviceFacts.model_validate(about)

    def bundle_path(self, bundle: Path) -> str:
        """Install a bundle's own wheel, as a device does; the bundle stays where it is.

        A bundle that was made for a timing alone has neither self-check nor wheel. It runs with this workstation's
        code.

        Raises:
            SlimError: the bundle is damaged, or has a self-check and no wheel.
        """
        path = str(bundle.absolute())
        self._installed[path] = self._unpacked(open_bundle(bundle))
        return path

    def images_path(self, images: Path) -> str:
        """Leave images where they are."""
        return str(images.absolute())

    def file_path(self, file: Path) -> str:
        """Leave a file where it is."""
        return str(file.absolute())

    def run(self, *arguments: str) -> None:
        """Run a command of the device."""
        self._run(arguments, allowed=(0,))

    def ask(self, *arguments: str, option: str = "--json") -> Any:
        """Run a command and read its answer."""
        with tempfile.TemporaryDirectory(dir=self._place.name) as folder:
            out = Path(folder) / "answer.json"
            self._run((*arguments, option, str(out)), allowed=ANSWERED)
            return read_json(out)

    def close(self) -> None:
        """Remove the unpacked wheels."""
        self._place.cleanup()

    def _unpacked(self, bundle: Bundle) -> Path:
        """The folder with a bundle's wheel; bundles with the same wheel share it."""
        files = bundle.spec.files
        wheel = next((name for name in files if name.endswith(".whl")), None)
        if wheel is None:
            if not (bundle.folder / selfcheck.FOLDER).exists():
                return self._own_code
            raise SlimError(
                f"The bundle {bundle.folder} contains no wheel, so nothing can be installed from it.",
                remedy="Build it again: yolo-slim build",
            )
        folder = Path(self._place.name) / files[wheel]["sha256"]
        if not folder.is_dir():
            with zipfile.ZipFile(bundle.folder / wheel) as archive:
                archive.extractall(folder)
        return folder

    @cached_property
    def _own_code(self) -> Path:
        """The folder with this workstation's code."""
        folder = Path(self._place.name) / "own"
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(device_wheel.write(folder)) as archive:
            archive.extractall(folder)
        return folder

    def _run(self, arguments: tuple[str, ...], allowed: tuple[int, ...]) -> None:
        named = (self._installed[text] for text in arguments if text in self._installed)
        # A command about no bundle, such as `layers`, runs with the code of the last one.
        code = next(named, None) or next(reversed(self._installed.values()), None) or self._own_code
        command = [*self.root.command(self.processor), "-m", "yolo_slim.runtime", *arguments]
        environment = {**GUEST, "PYTHONPATH": str(code), "TMPDIR": self._place.name}
        try:
            # Not in the caller's folder: Python would take a yolo_slim that lies there before the wheel's.
            done = subprocess.run(
                command, cwd=self._place.name, env=environment,
                capture_output=True, text=True, check=False, timeout=self.timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise self._stuck(arguments) from None
        if done.returncode not in allowed:
            raise crashed(self, arguments, done.returncode) or failed(self, arguments, done.returncode, done.stderr)

    def _stuck(self, arguments: tuple[str, ...]) -> MachineError:
        return MachineError(
            f"The emulation of {self.name} was ended: `{arguments[0]}` took more than {self.timeout_s:g} s.",
            remedy="Emulate fewer images (emulate.images), or at another time: it needs a whole core of this machine.",
        )


def crashed(shell: EmulatedShell, arguments: tuple[str, ...], status: int) -> SlimError | None:
    """Make the error of a command that a signal of the processor ended; None: another status.

    Args:
        shell: where it ran.
        arguments: of the command.
        status: exit status, negative for a signal.
    """
    meanings = {
        signal.SIGILL: f"it has an instruction that a {shell.processor.label} doesn't have",
        signal.SIGSEGV: "it used memory that isn't its own",
        signal.SIGBUS: "it used an address that the processor refuses",
        signal.SIGFPE: "it divided by zero",
        signal.SIGABRT: "it gave up",
    }
    meaning = meanings.get(signal.Signals(-status)) if -status in list(signal.Signals) else None
    if meaning is None:
        return None
    return SlimError(
        f"{signal.Signals(-status).name} ended the bundle on {shell.name}: {meaning}.",
        culprits=[f"python -m yolo_slim.runtime {shlex.join(arguments)}"],
        remedy="It would end so on the board too: use another runtime or precision, or another version of the runtime.",
    )
