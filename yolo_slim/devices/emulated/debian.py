"""Debian packages of another architecture, by this machine's apt, without root and without touching its state."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import SlimError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Keys that a mirror's packages are signed with; on Debian it is always there."""
HOOKS = (
    *("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"),
    *("DPkg::Pre-Invoke", "DPkg::Post-Invoke", "DPkg::Pre-Install-Pkgs"),
)
"""Lists of commands that a machine's configuration starts; they are about that machine."""
MIRROR_REMEDY = (
    "Name a Debian mirror: yolo-slim device prepare --mirror URL --release bookworm. It needs Debian's keys: "
    "apt install debian-archive-keyring"
)


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Where Debian's packages come from, in place of this machine's own sources."""

    url: str
    release: str
    """Such as ``bookworm``."""

    def __str__(self) -> str:
        return f"{self.url} {self.release}"


def require_apt() -> None:
    """Refuse a machine without Debian's tools.

    Raises:
        SlimError: they are missing.
    """
    if missing := [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]:
        raise SlimError(
            "An emulated device is made of Debian packages, and this machine has no tools for them.",
            culprits=[f"{tool} is missing" for tool in missing],
            remedy="Use Debian or Ubuntu, in a container or virtual machine too.",
        )


class Apt:
    """Debian's package manager with a state of its own in one folder."""

    def __init__(self, folder: Path, mirror: Mirror | None = None) -> None:
        self.folder = folder
        for name in ("lists/partial", "archives/partial", "state"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # No package counts as installed, so that all that one depends on is fetched with it.
        (folder / "state" / "status").write_text("", encoding="utf-8")
        self.config = folder / "apt.conf"
        self.config.write_text(self._settings(mirror), encoding="utf-8")

    def fetch(self, packages: Sequence[str]) -> list[Path]:
        """Download packages with all that they depend on, checked by their signed digests; give their files.

        Raises:
            SlimError: no network, or the sources don't have them.
        """
        self._run("update")
        self._run("install", "--yes", "--no-install-recommends", "--download-only", *packages)
        # Of an interrupted preparation, older versions of the same packages may be there.
        self._run("autoclean")
        return sorted((self.folder / "archives").glob("*.deb"))

    def _settings(self, mirror: Mirror | None) -> str:
        """The configuration: every path is ours; sources and proxies stay the machine's."""
        here = str(self.folder)
        lines = [
            f'Dir::State "{here}/state";',
            f'Dir::State::lists "{here}/lists";',
            f'Dir::State::status "{here}/state/status";',
            f'Dir::Cache "{here}";',
            f'Dir::Cache::archives "{here}/archives";',
            f'Dir::Log "{here}/state";',
            "#clear APT::Architectures;",
            'APT::Architecture "arm64";',
            f'APT::Architectures {{ "arm64"; "{own_architecture()}"; }};',
            'APT::Sandbox::User "";',
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
            'Acquire::http::Timeout "30";',
            *(f"#clear {hook};" for hook in HOOKS),
        ]
        return "\n".join([*lines, *self._sources(mirror)]) + "\n"

    def _sources(self, mirror: Mirror | None) -> list[str]:
        if mirror is None:
            return []
        if not KEYRING.is_file():
            raise SlimError(
                f"Packages of {mirror.url} can't be checked: {KEYRING} is missing.",
                remedy="Install it: sudo apt install debian-archive-keyring",
            )
        path = self.folder / "sources.list"
        path.write_text(f"deb [signed-by={KEYRING}] {mirror.url} {mirror.release} main\n", encoding="utf-8")
        return [f'Dir::Etc::sourcelist "{path}";', 'Dir::Etc::sourceparts "/dev/null";']

    def _run(self, *arguments: str) -> None:
        command = ["apt-get", "-qq", "-c", str(self.config), *arguments]
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SlimError(
                f"apt-get {arguments[0]} failed: the package sources don't answer, or have nothing for arm64.",
                culprits=problems(done.stdout + done.stderr),
                remedy=MIRROR_REMEDY,
            )


def problems(output: str) -> list[str]:
    """The lines of apt that say what is wrong, each once."""
    said = [line.strip() for line in output.splitlines() if re.match(r"[EW]: ", line)]
    return list(dict.fromkeys(said))[-6:] or output.strip().splitlines()[-6:]


def own_architecture() -> str:
    """What Debian calls this machine's processor architecture."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def unpack(deb: Path, folder: Path) -> None:
    """Write a package's files below a folder; none of its scripts runs."""
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(folder)], check=True, capture_output=True)


def unpack_one(deb: Path, names: Sequence[str], folder: Path) -> Path | None:
    """Write the first file of a package whose name is among ``names``; None: it has none of them."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    # It complains when nobody reads the rest of a package.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isreg() and Path(entry.name).name in names else None
                if stream:
                    out = folder / Path(entry.name).name
                    out.write_bytes(stream.read())
                    out.chmod(0o755)
                    return out
    return None
