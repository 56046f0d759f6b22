"""Commands and files of a device over SSH, for callers that wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from yolo_slim.bundle import open_bundle
from yolo_slim.config.record import read_record
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.devices.commands import ANSWERED, failed
from yolo_slim.devices.ssh.background import Background
from yolo_slim.devices.ssh.environment import CLEAN, SHORT_S, Installer
from yolo_slim.devices.ssh.link import Reply, Task
from yolo_slim.devices.ssh.packages import MISSING, needs_of
from yolo_slim.devices.ssh.push import Parcel, image_files, push
from yolo_slim.devices.ssh.session import Session
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import JsonObject
from yolo_slim.runtime.arguments import REPEATS

USUAL_LIMIT_S = 1800.0
LIMITS_S = {"build": 4 * 3600.0, "infer": 4 * 3600.0, "bench": 4 * 3600.0, "tune": 4 * 3600.0, "pair": 2 * 3600.0}
"""When a command of the device is taken for stuck; an emulated board's slowest frame takes a minute."""
KEPT = {"bundles": 24, "images": 4, "code": 2, "env": 2, "wheels": 0}
"""Entries that stay on the device after a run."""
KEPT_MB = 4000.0
"""Most that the entries of one kind occupy together."""
_FACTS = "import json; from yolo_slim.machine import describe_device; print(json.dumps(describe_device()))"


class SshShell:
    """A device over SSH: :meth:`open` and :meth:`prepare` come first, :meth:`close` gives it back."""

    def __init__(
        self, session: Session, *, versions: Mapping[str, str], offline: bool = False, cache: Path | None = None
    ) -> None:
        self.session = session
        self._versions, self._offline = versions, offline
        self._cache = cache or Path("~/.cache/yolo_slim/wheels").expanduser()
        self._background = Background(f"ssh {session.address.name}")
        self.about: JsonObject = {}
        self._runtimes: frozenset[str] = frozenset()
        self._code, self._python = "", ""
        self._facts: DeviceFacts | None = None
        self._placed: dict[tuple[str, tuple[object, ...]], str] = {}

    @property
    def name(self) -> str:
        """What people call the device."""
        return self.session.address.name

    def open(self) -> None:
        """Connect, take the lock and bring the device half of yolo_slim.

        Raises:
            SlimError: the device can't be reached or used.
            MachineError: another run uses it.
        """
        self.about = self._background.call(self.session.open()).about
        self._code = self._background.call(self._installer.code())
        self._python = self.about["executable"]

    def prepare(self, runtimes: frozenset[str]) -> None:
        """Make the environment that bundles of some runtimes need, if it isn't there.

        Raises:
            SlimError: it can't be made, or the Python of the inventory lacks a package.
        """
        if runtimes <= self._runtimes:
            return
        self._runtimes |= runtimes
        needs = needs_of(self._runtimes, self._versions, self.about["python"])
        if self.session.address.python is None:
            self._python = self._background.call(self._installer.python(needs))
        # A Python that the user named is the user's own: nothing is installed into it.
        elif missing := self._missing(list(needs.modules)):
            raise SlimError(
                f"The Python of {self.name} ({self.session.address.python}) lacks packages.",
                culprits=[needs.modules[module] for module in missing],
                remedy="Install them there, or leave python out of the inventory: then an environment is made.",
            )
        self._facts = None

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""
        if self._facts is None:
            reply = self._run("ask for its facts", ["-c", _FACTS], answer="stdout", limit_s=SHORT_S)
            if reply.values["status"]:
                raise SlimError(
                    f"{self.name} can't say what it is.",
                    culprits=reply.lines[-4:],
                    remedy=f"Look at its Python: yolo-slim doctor --host {self.name}",
                )
            self._facts = read_record(DeviceFacts, json.loads(reply.body), self.name, "")
        return self._facts

    def bundle_path(self, bundle: Path) -> str:
        """Send what the device lacks of a bundle; its environment is made with it."""
        opened = open_bundle(bundle)
        self.prepare(frozenset([opened.spec.runtime]))
        return self._pushed(Parcel.of_bundle(opened), f"the bundle {bundle.name}")

    def images_path(self, images: Path) -> str:
        """Send the images that the device lacks."""
        files = image_files(images)
        # Every timing of a run has the same images: they are hashed once, until one changes.
        stats = tuple((name, (found := path.stat()).st_size, found.st_mtime_ns) for name, path in files.items())
        key = (str(images.absolute()), stats)
        if key not in self._placed:
            self._placed[key] = self._pushed(Parcel.of("images", files), f"{len(files)} images")
        path = self._placed[key]
        return path if images.is_dir() else f"{path}/{images.name}"

    def file_path(self, file: Path) -> str:
        """Send a file unless the device has it."""
        return f"{self._pushed(Parcel.of('files', {file.name: file}), file.name)}/{file.name}"

    def run(self, *arguments: str) -> None:
        """Run a command of the device there."""
        self._runtime(arguments, allowed=(0,), answer="")

    def ask(self, *arguments: str, option: str = "--json") -> Any:
        """Run a command there and read its answer."""
        reply = self._runtime((*arguments, option, "{answer}"), allowed=ANSWERED, answer="file")
        try:
            return json.loads(reply.body)
        except ValueError as error:
            raise SlimError(f"{self.name} gave an answer to `{arguments[0]}` that can't be read: {error}.") from None

    def close(self) -> None:
        """Keep the caches small, end the connection, and with it all that is temporary there."""
        with suppress(Exception):
            if self.session.is_open:
                self._background.call(self.session.sweep(KEPT, KEPT_MB))
        with suppress(Exception):
            self._background.call(self.session.close())
        self._background.close()

    @property
    def _installer(self) -> Installer:
        return Installer(session=self.session, about=self.about, offline=self._offline, cache=self._cache)

    def _pushed(self, parcel: Parcel, what: str) -> str:
        return self._background.call(push(self.session, parcel, what))

    def _runtime(self, arguments: tuple[str, ...], allowed: tuple[int, ...], answer: str) -> Reply:
        command, verb, most_s = ["-m", "yolo_slim.runtime", *arguments], arguments[0], limit_s(arguments)
        reply = self._run(verb, command, answer=answer, limit_s=most_s)
        if reply.values["is_late"]:
            raise MachineError(
                f"`{verb}` didn't end on {self.name} within {most_s / 3600:g} hours.",
                culprits=reply.lines[-4:],
                remedy="Look at the device: is it very busy, or out of memory?",
            )
        if reply.values["status"] not in allowed:
            raise failed(self, arguments, reply.values["status"], "\n".join(reply.lines))
        return reply

    def _missing(self, modules: list[str]) -> list[str]:
        """Name the modules that its Python can't import."""
        reply = self._run("look for packages", ["-c", MISSING, *modules], answer="", limit_s=SHORT_S)
        return [module for module in modules if f"missing {module}" in reply.lines]

    def _run(self, phase: str, words: list[str], *, answer: str, limit_s: float) -> Reply:
        """Run the device's Python with the device half of yolo_slim."""
        environment = {**CLEAN, "PYTHONPATH": self._code, "OMP_NUM_THREADS": ""}
        task = Task(command=[self._python, *words], environment=environment, answer=answer, limit_s=limit_s)
        on_line = self._on_line(phase)
        return self._background.call(self.session.keep(phase, lambda link: link.run(task, on_line)))

    def _on_line(self, phase: str) -> Callable[[str], object]:
        return lambda line: self.session.progress.step(f"device: {phase}: {line[:60]}", 0, 1)


def limit_s(arguments: Sequence[str]) -> float:
    """When a command is taken for stuck, seconds; a run of minutes may be repeated, and has that time besides."""
    minutes = float(arguments[arguments.index("--minutes") + 1]) if "--minutes" in arguments else 0.0
    return LIMITS_S.get(arguments[0], USUAL_LIMIT_S) + 60 * minutes * (REPEATS + 1)
