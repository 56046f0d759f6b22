"""Make an emulated system, once: an arm64 Debian's Python and the wheels of a device, in a folder of the user's cache.

It needs neither root, nor a daemon, nor a chroot, nor a kernel that knows the format of the programs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.devices.emulated.debian import Apt, Mirror, own_architecture, require_apt, unpack, unpack_one
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.recipe import QEMU, Recipe, cache_folder, own_release, wanted_wheels
from yolo_slim.devices.emulated.root import GUEST, MACHINES, MANIFEST, SYSTEM, TOOLS, Root, RootFacts, find_root
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import write_json
from yolo_slim.progress import Progress

BINARIES = ("qemu-aarch64-static", "qemu-aarch64")
"""The emulator's name, by Debian's release."""
APT = "apt"
MODULES = "import cv2, ncnn, numpy, onnxruntime"
"""What every emulated device must import before the system counts as prepared."""
SHARED = ("usr", "lib", "bin", "etc", "var")
"""Folders that all emulated devices have in common; ``/proc`` is each one's own."""
GLIBC = range(17, 37)
"""Minor versions of the C library 2.x whose wheels are taken: from the oldest of aarch64 to that of Debian 12."""


def prepare(progress: Progress, *, fresh: bool = False, mirror: Mirror | None = None) -> Root:
    """Make the emulated system, unless it is there.

    Args:
        progress: listener.
        fresh: make it again.
        mirror: a Debian mirror; None: this machine's own package sources.

    Raises:
        SlimError: no apt, no network, no space, or a system that doesn't work.
    """
    require_linux()
    recipe = Recipe(source=str(mirror or own_release()), wheels=wanted_wheels())
    folder = cache_folder() / recipe.key
    with os_errors_explained(folder), _locked(folder, progress):
        found = None if fresh else Root.read(folder) if mirror else find_root()
        if found and found.is_usable:
            return found
        # First: what is half removed or half made must not be taken for whole.
        (folder / MANIFEST).unlink(missing_ok=True)
        if fresh:
            shutil.rmtree(folder)
            folder.mkdir()
        return _made(recipe, folder, mirror, progress)


def require_linux() -> None:
    """Refuse a system whose programs QEMU can't emulate, or that has no apt.

    Raises:
        SlimError: it is one.
    """
    if sys.platform != "linux":
        raise SlimError(
            f"QEMU emulates Linux programs on Linux, and this is {sys.platform}.",
            remedy="Use Debian or Ubuntu, in a container or virtual machine too.",
        )
    require_apt()


def _made(recipe: Recipe, folder: Path, mirror: Mirror | None, progress: Progress) -> Root:
    """Fill the folder; what an interrupted preparation downloaded is used again."""
    started = time.monotonic()
    system = folder / SYSTEM
    for stale in (SYSTEM, MACHINES, TOOLS):
        shutil.rmtree(folder / stale, ignore_errors=True)
        (folder / stale).mkdir()
    progress.say("prepare: fetch Debian packages")
    own_qemu = next((path for name in BINARIES if (path := shutil.which(name))), None)
    debs = Apt(folder / APT, mirror).fetch([*recipe.packages, *([] if own_qemu else [f"{QEMU}:{own_architecture()}"])])
    progress.say(f"prepare: unpack {len(debs)} packages")
    qemu = Path(own_qemu) if own_qemu else _fetched_qemu(debs, folder / TOOLS)
    _unpack_all([deb for deb in debs if not deb.name.startswith("qemu")], system)
    progress.say(f"prepare: install {', '.join(recipe.wheels)}")
    python = _python_of(system)
    install_wheels(recipe.wheels, system / "usr/lib/python3/dist-packages", python)
    facts = RootFacts(
        key=recipe.key, revision=recipe.revision, source=recipe.source, qemu=str(qemu),
        qemu_version=_qemu_version(qemu), python=python, wheels=recipe.wheels,
        packages=tuple(sorted(deb.stem.replace("%3a", ":") for deb in debs)), size_mb=0, seconds=0,
    )  # fmt: skip
    root = Root(folder, facts)
    progress.say("prepare: first start")
    _try_all(root)
    shutil.rmtree(folder / APT)
    figures = {"size_mb": _size_mb(folder), "seconds": round(time.monotonic() - started, 1)}
    write_json(folder / MANIFEST, {**facts.to_json(), **figures})
    return Root(folder, facts.model_copy(update=figures))


def _fetched_qemu(debs: Sequence[Path], folder: Path) -> Path:
    """Take the emulator alone out of its package, which has one for every architecture."""
    found = (unpack_one(deb, BINARIES, folder) for deb in debs if deb.name.startswith("qemu"))
    path = next((one for one in found if one), None)
    if path is None:
        raise SlimError(
            f"The package {QEMU} has none of {', '.join(BINARIES)}.", remedy=f"Install it: apt install {QEMU}"
        )
    return path


def _unpack_all(debs: Sequence[Path], system: Path) -> None:
    for deb in debs:
        unpack(deb, system)
    # Since Debian 13 these are links that a package makes which nothing here depends on.
    for name in ("lib", "bin"):
        if not (system / name).exists():
            (system / name).symlink_to(f"usr/{name}")


def _python_of(system: Path) -> str:
    """Version of the unpacked interpreter, such as 3.11."""
    names = (path.name for path in (system / "usr/bin").glob("python3.*"))
    found = next((match[1] for name in names if (match := re.fullmatch(r"python(3\.\d+)", name))), None)
    if found is None:
        raise SlimError("The Debian packages have no Python.", remedy="Prepare again with --fresh, or from a --mirror.")
    return found


def install_wheels(wheels: Sequence[str], folder: Path, python: str) -> None:
    """Install wheels of aarch64 by this machine's pip; ``python`` is the version that they are for.

    Raises:
        SlimError: no pip, no network, or no such wheel.
    """
    platforms = [*(f"manylinux_2_{minor}_aarch64" for minor in GLIBC), "manylinux2014_aarch64"]
    options = [text for name in platforms for text in ("--platform", name)]
    # Without what they depend on: NCNN asks for an OpenCV with windows, which needs a graphical system.
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", python, *options, *wheels),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SlimError(
            f"pip can't install the wheels for Python {python} on aarch64.",
            culprits=[line for line in done.stderr.splitlines() if line.strip()][-4:],
            remedy="Without a network: connect it for this one command. Without pip: python -m ensurepip.",
        )


def _try_all(root: Root) -> None:
    """Write each device's ``/proc``, and let it import every package.

    Raises:
        SlimError: one of them can't.
    """
    for processor in PROCESSORS.values():
        proc = root.folder / MACHINES / processor.name / "proc"
        (proc / "device-tree").mkdir(parents=True)
        (proc / "cpuinfo").write_text(processor.cpuinfo(), encoding="utf-8")
        (proc / "device-tree" / "model").write_text(root.model(processor), encoding="utf-8")
        for name in SHARED:
            (proc.parent / name).symlink_to(Path("../..") / SYSTEM / name)
        command = [*root.command(processor), "-c", MODULES]
        done = subprocess.run(command, env=GUEST, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise SlimError(
                f"{processor.name} doesn't work: `{MODULES}` ended with status {done.returncode}.",
                culprits=done.stderr.strip().splitlines()[-4:],
                remedy=f"QEMU {root.facts.qemu_version} may be too old for a {processor.label}: 7.2 knows it.",
            )


def _qemu_version(qemu: Path) -> str:
    """The emulator's version, such as 7.2."""
    said = subprocess.run([str(qemu), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+\.\d+)", said)
    return found[1] if found else "unknown"


def _size_mb(folder: Path) -> float:
    """What a folder's files take, megabytes (10^6 bytes)."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return round(sum(path.lstat().st_size for path in files) / 1e6, 1)


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Let one process at a time prepare a system; the lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("prepare: another process is preparing it; waiting")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
