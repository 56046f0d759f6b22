"""The device's own Python environment: made at the first contact, used again at every later one."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.devices import device_wheel
from yolo_slim.devices.ssh.address import CHOOSE_FOLDER
from yolo_slim.devices.ssh.link import Reply, Task
from yolo_slim.devices.ssh.packages import MISSING, Needs, download, not_installed
from yolo_slim.devices.ssh.push import Parcel, push
from yolo_slim.devices.ssh.session import Session
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import JsonObject

INSTALL_S, SHORT_S = 3600.0, 120.0
"""Limits: PyCUDA is compiled on the device; everything else is quick."""
ROOM_MB = 700.0
"""Room that an environment takes at most: NumPy, OpenCV, ONNX Runtime and NCNN need about 400."""
CUDA = "/usr/local/cuda"
CLEAN = {"PYTHONHOME": "", "PYTHONPATH": "", "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""What an environment of ours must not take from the user's: other packages."""


@dataclass(frozen=True, kw_only=True)
class Installer:
    """Makes what is missing on a device."""

    session: Session
    about: JsonObject
    """What the agent said of the device."""
    offline: bool
    """This machine collects the wheels and sends them."""
    cache: Path
    """Folder here for these wheels."""

    async def code(self) -> str:
        """Bring the device half of yolo_slim; return the folder to import it from."""
        with tempfile.TemporaryDirectory(prefix="yolo-slim-wheel-") as folder:
            wheel = device_wheel.write(Path(folder))
            parcel = Parcel.of("code", {wheel.name: wheel})
            ready = await self._ask("look for yolo_slim", "ready", folder=parcel.folder)
            if not ready["is_ready"]:
                path = await push(self.session, parcel, "yolo_slim")
                unpack = [str(self.about["executable"]), "-m", "zipfile", "-e", posixpath.join(path, wheel.name), path]
                _require(await self._run("unpack yolo_slim", unpack, SHORT_S), self._name)
                await self._ask("unpack yolo_slim", "mark", folder=parcel.folder)
        return str(ready["path"])

    async def python(self, needs: Needs) -> str:
        """Make the environment; return its Python.

        Raises:
            SlimError: no room, no pip, no network, no TensorRT, or a package that isn't there for this device.
        """
        folder = f"env/{needs.key}"
        ready = await self._ask("look for the environment", "ready", folder=folder)
        path = str(ready["path"])
        python = posixpath.join(path, "bin/python")
        if not ready["is_ready"]:
            self._require_room()
            self.session.progress.say(f"device: first contact with {self._name}: installing {', '.join(needs.modules)}")
            tool = await self._make(path, needs)
            await self._install(tool, python, needs)
            await self._ask("finish the environment", "mark", folder=folder)
        return python

    @property
    def _name(self) -> str:
        return self.session.address.name

    def _require_room(self) -> None:
        free = float(self.about["free_mb"])
        if free < ROOM_MB:
            raise MachineError(
                f"{self._name} has {free:.0f} MB left in {self.about['folder']}, "
                f"and its environment takes up to {ROOM_MB:.0f}.",
                remedy=f"Free some space there, or choose another folder: {CHOOSE_FOLDER}",
            )

    async def _make(self, path: str, needs: Needs) -> list[str]:
        """Make an environment without packages; return the command that installs into it."""
        sees = ["--system-site-packages"] if needs.sees_system else []
        own = str(self.about["executable"])
        python = posixpath.join(path, "bin/python")
        if self.offline:
            # The pip that is sent along installs: then the device needs none.
            wheels = await push(self.session, self._wheels(needs), "the wheels")
            pip = next(name for name in self._wheels(needs).files if name.startswith("pip-"))
            await self._step("make the environment", [own, "-m", "venv", "--without-pip", *sees, path])
            return [python, posixpath.join(wheels, pip, "pip"), "install", "--no-index", "--find-links", wheels]
        if self.about["has_venv"]:
            await self._step("make the environment", [own, "-m", "venv", *sees, path])
            return [python, "-m", "pip", "install"]
        if self.about["uv"]:
            uv = str(self.about["uv"])
            await self._step("make the environment", [uv, "venv", "--quiet", "--python", own, *sees, path])
            return [uv, "pip", "install", "--python", python]
        raise MachineError(
            f"The Python of {self._name} has no pip.",
            remedy="Install it there: sudo apt install python3-venv. Or give --offline: this machine then sends it.",
        )

    def _wheels(self, needs: Needs) -> Parcel:
        folder = download(needs, self.about, self.cache)
        return Parcel.of("wheels", {path.name: path for path in sorted(folder.glob("*.whl"))})

    async def _install(self, tool: list[str], python: str, needs: Needs) -> None:
        """Install what can't be imported yet."""
        absent = await self._absent(python, ["tensorrt", *needs.modules]) if needs.sees_system else [*needs.modules]
        if "tensorrt" in absent:
            raise MachineError(
                f"The Python of {self._name} has no TensorRT.",
                remedy="It comes with JetPack. Install it there: sudo apt install python3-libnvinfer",
            )
        missing = [need for module, need in needs.modules.items() if module in absent]
        if not missing:
            return
        cuda = {"PATH": f"{CUDA}/bin:{self.about['path']}", "CUDA_ROOT": CUDA} if needs.sees_system else {}
        reply = await self._run("install the packages", [*tool, "--quiet", *missing], INSTALL_S, cuda)
        if reply.values["status"]:
            raise not_installed(self._name, reply.lines, offline=self.offline)

    async def _absent(self, python: str, modules: list[str]) -> list[str]:
        """Name the modules that can't be imported."""
        reply = await self._run("look for packages", [python, "-c", MISSING, *modules], SHORT_S)
        return [module for module in modules if f"missing {module}" in reply.lines]

    async def _step(self, phase: str, command: list[str]) -> None:
        _require(await self._run(phase, command, INSTALL_S), self._name)

    async def _run(
        self, phase: str, command: list[str], limit_s: float, environment: Mapping[str, str] | None = None
    ) -> Reply:
        task = Task(command=command, environment={**CLEAN, **(environment or {})}, limit_s=limit_s)
        return await self.session.keep(phase, lambda link: link.run(task))

    async def _ask(self, phase: str, do: str, **values: object) -> JsonObject:
        return (await self.session.keep(phase, lambda link: link.ask(do, **values))).values


def _require(reply: Reply, device: str) -> None:
    """Refuse to go on after a command that failed."""
    if reply.values["status"]:
        raise SlimError(
            f"{device} can't make an environment for Python (status {reply.values['status']}).",
            culprits=reply.lines[-4:],
            remedy="Debian, Ubuntu: sudo apt install python3-venv. Or give --offline.",
        )
