"""An emulated system that is prepared: where it lies, and what is in it."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.config.record import Record, read_record
from yolo_slim.devices.emulated.processors import Processor
from yolo_slim.devices.emulated.recipe import REVISION, cache_folder, wanted_wheels
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json

MANIFEST = "emulated.json"
"""Written last: a folder without it isn't prepared."""
SYSTEM, MACHINES, TOOLS = "root", "machines", "tools"
PREPARE = "yolo-slim device prepare"
GUEST = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/"}
"""Environment of an emulated process: nothing of this machine's Python, libraries and settings reaches it."""


class RootFacts(Record):
    """What an emulated system is made of."""

    key: str
    """Name of its folder."""
    revision: int
    """Revision of what made it."""
    source: str
    """Where Debian's packages came from."""
    qemu: str
    """Path of the emulator."""
    qemu_version: str
    """Its version."""
    python: str
    """Version of the emulated Python."""
    wheels: tuple[str, ...]
    """Python packages, as ``NAME==VERSION``."""
    packages: tuple[str, ...]
    """Debian packages, as ``NAME_VERSION_ARCHITECTURE``."""
    size_mb: float
    """Size on the disk, megabytes (10^6 bytes)."""
    seconds: float
    """How long its preparation took."""


class Root:
    """A prepared system; all emulated devices share it but for ``/proc``."""

    def __init__(self, folder: Path, facts: RootFacts) -> None:
        self.folder, self.facts = folder, facts

    @classmethod
    def read(cls, folder: Path) -> Root | None:
        """Read the manifest of a folder; None: it isn't prepared."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        return cls(folder, read_record(RootFacts, read_json(path), str(path), f"Prepare it again: {PREPARE} --fresh"))

    @property
    def is_usable(self) -> bool:
        """Whether its emulator is still there: it may be a program of this machine."""
        return Path(self.facts.qemu).is_file()

    @property
    def python(self) -> Path:
        """The emulated interpreter."""
        return self.folder / SYSTEM / "usr" / "bin" / f"python{'.'.join(self.facts.python.split('.')[:2])}"

    def model(self, processor: Processor) -> str:
        """What an emulated device says that it is."""
        return model_text(processor, self.facts.qemu_version)

    def command(self, processor: Processor) -> list[str]:
        """The command that starts the emulated Python; arguments follow."""
        prefix = self.folder / MACHINES / processor.name
        return [self.facts.qemu, "-cpu", processor.cpu, "-L", str(prefix), str(self.python)]


def model_text(processor: Processor, qemu_version: str) -> str:
    """Name an emulated device so that nobody takes it for a board."""
    return f"emulated {processor.label} (QEMU {qemu_version})"


def find_root() -> Root | None:
    """The newest prepared system with this workstation's versions of the packages; None: there is none."""
    try:
        wheels = wanted_wheels()
    except SlimError:
        return None
    newest = sorted(cache_folder().glob(f"*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime)
    # What an earlier version made is left alone, but not read: its layout may be another one.
    mine = (path.parent for path in newest if _revision(path) == REVISION)
    roots = (root for folder in mine if (root := Root.read(folder)))
    return next((root for root in roots if root.facts.wheels == wheels and root.is_usable), None)


def _revision(manifest: Path) -> object:
    """The revision that a manifest names; None: it is damaged, so its system isn't prepared."""
    try:
        return read_json(manifest).get("revision")
    except (ValueError, AttributeError):
        return None


def require_root(name: str) -> Root:
    """Find the prepared system.

    Raises:
        SlimError: it isn't prepared, or other versions of the packages are installed here since then.
    """
    root = find_root()
    if root is None:
        raise SlimError(
            f"{name} isn't prepared for the packages that are installed here.", remedy=f"Prepare it once: {PREPARE}"
        )
    return root
