"""The preparation of the emulated system, with an apt that has its packages in a folder, and no network."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.helpers.listeners import Interrupts, Remembers
from yolo_slim.config import targets
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.connect import connect
from yolo_slim.devices.emulated import debian, recipe
from yolo_slim.devices.emulated import prepare as preparation
from yolo_slim.devices.emulated.debian import Mirror, problems
from yolo_slim.devices.emulated.prepare import prepare
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import MANIFEST, find_root
from yolo_slim.errors import SlimError

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
QEMU = '#!/bin/sh\n[ "$1" = --version ] && echo "qemu-aarch64 version 9.1.0"\nexit 0\n'
"""An emulator that emulates nothing."""
APT = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in *download-only*) cp "{debs}"/*.deb "$(dirname "$3")/archives/" ;; esac
"""
"""An ``apt-get -qq -c FOLDER/apt.conf ...`` whose packages come from a folder."""


def make_deb(folder: Path, name: str, files: dict[str, str]) -> None:
    """Write a package with these files."""
    tree = folder / "tree"
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "DEBIAN").mkdir(parents=True)
    about = f"Package: {name}\nVersion: 1.0\nArchitecture: arm64\nMaintainer: nobody\nDescription: a test\n"
    (tree / "DEBIAN" / "control").write_text(about)
    subprocess.run(["dpkg-deb", "--build", tree, folder / f"{name}_1.0_arm64.deb"], check=True, capture_output=True)
    shutil.rmtree(tree)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put such an apt on the path, an empty cache, and no emulator; return the file with what apt was asked."""
    programs, debs, log = tmp_path / "bin", tmp_path / "debs", tmp_path / "asked.txt"
    programs.mkdir()
    debs.mkdir()
    make_deb(debs, "python3.11-minimal", {"usr/bin/python3.11": "", "usr/lib/aarch64-linux-gnu/libc.so.6": ""})
    make_deb(debs, "qemu-user-static", {f"usr/bin/qemu-{arch}-static": QEMU for arch in ("aarch64", "arm")})
    (programs / "apt-get").write_text(APT.format(log=log, debs=debs))
    (programs / "apt-get").chmod(0o755)
    for tool in ("dpkg-deb", "dpkg-split", "tar", "rm", "cp", "dirname", "sh", "xz", "gzip"):
        if path := shutil.which(tool):
            (programs / tool).symlink_to(path)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(preparation, "install_wheels", lambda _, folder, __: folder.mkdir(parents=True))
    return log


def test_prepared_once(asked: Path) -> None:
    """The second call asks apt for nothing, and the system has one folder of its own for each processor."""
    root = prepare(Remembers())
    before = asked.read_text()
    assert prepare(Remembers()).folder == root.folder
    assert asked.read_text() == before
    for name, processor in PROCESSORS.items():
        machine = root.folder / "machines" / name
        assert (machine / "proc" / "cpuinfo").read_text() == processor.cpuinfo()
        assert (machine / "proc" / "device-tree" / "model").read_text() == f"emulated {processor.label} (QEMU 9.1)"
        assert (machine / "usr" / "bin" / "python3.11").exists()


def test_only_the_emulator_of_arm64_is_kept(asked: Path) -> None:
    """Its package has one for every processor; packages and lists are removed at the end."""
    root = prepare(Remembers())
    assert [path.name for path in (root.folder / "tools").iterdir()] == ["qemu-aarch64-static"]
    assert not list(root.folder.rglob("*.deb"))
    assert root.facts.packages == ("python3.11-minimal_1.0_arm64", "qemu-user-static_1.0_arm64")


def test_fresh_makes_it_again(asked: Path) -> None:
    """With ``fresh`` apt is asked again, and nothing of the old system is left."""
    old = prepare(Remembers()).folder / "root" / "left-over"
    old.write_text("")
    before = asked.read_text()
    prepare(Remembers(), fresh=True)
    assert len(asked.read_text()) == 2 * len(before)
    assert not old.exists()


@pytest.mark.parametrize("moment", ["unpack", "install", "first start"])
def test_interrupted_is_not_prepared(moment: str, asked: Path) -> None:
    """Whenever it is interrupted, it counts as not prepared, and the next call completes it."""
    with pytest.raises(KeyboardInterrupt):
        prepare(Interrupts(moment))
    assert find_root() is None
    assert prepare(Remembers()).facts.qemu_version == "9.1"


@pytest.mark.parametrize("mirror", [None, Mirror(url="http://mirror.invalid/debian", release="bookworm")])
def test_a_lost_emulator_is_made_again(
    mirror: Mirror | None, asked: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A system whose emulator is gone isn't prepared; the old manifest doesn't vouch for a half-made new one."""
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "keys.gpg")
    (tmp_path / "keys.gpg").touch()
    qemu = Path(prepare(Remembers(), mirror=mirror).facts.qemu)
    qemu.unlink()
    with pytest.raises(KeyboardInterrupt):
        prepare(Interrupts("install"), mirror=mirror)
    assert qemu.is_file()
    assert find_root() is None
    assert prepare(Remembers(), mirror=mirror).is_usable


def test_broken_system_is_not_prepared(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that can't import the packages ends the preparation, with its last words."""
    monkeypatch.setattr(preparation, "MODULES", "import absent")
    broken = asked.parent / "debs"
    make_deb(broken, "qemu-user-static", {"usr/bin/qemu-aarch64-static": "#!/bin/sh\necho no absent >&2; exit 1\n"})
    with pytest.raises(SlimError, match="rpi4-emulated doesn't work: `import absent` ended with status 1") as refusal:
        prepare(Remembers())
    assert refusal.value.culprits == ("no absent",)
    assert find_root() is None


def test_other_versions_are_another_system(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update of a package here, the prepared system no longer counts, and the message says what to type."""
    old = prepare(Remembers())
    monkeypatch.setattr(recipe, "package_version", lambda _: "99.0")
    assert find_root() is None
    with pytest.raises(SlimError, match="yolo-slim device prepare"):
        connect(DeviceConfig(host="rpi5-emulated"), targets.load("rpi5"))
    assert prepare(Remembers()).folder != old.folder


def test_two_preparations_wait_for_each_other(asked: Path) -> None:
    """The second one says that it waits, and then finds the system prepared."""
    folder, said = prepare(Remembers()).folder, Remembers()
    with folder.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        waiting = threading.Thread(target=prepare, args=(said,))
        waiting.start()
        while "another process" not in said.said:
            waiting.join(0.01)
        fcntl.flock(stream, fcntl.LOCK_UN)
        waiting.join(30)
    assert said.said == "prepare: another process is preparing it; waiting\n"


def test_machine_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that isn't Debian's is told what is missing; nothing is written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SlimError, match="no tools for them") as refusal:
        prepare(Remembers())
    assert refusal.value.culprits == ("apt-get is missing", "dpkg-deb is missing")
    assert not (tmp_path / "cache").exists()


def test_sources_without_arm64(asked: Path) -> None:
    """What apt complains of is shown, and how to name a mirror."""
    (asked.parent / "bin" / "apt-get").write_text(
        '#!/bin/sh\necho "E: Unable to locate package python3-minimal" >&2\nexit 100\n'
    )
    with pytest.raises(SlimError, match="nothing for arm64") as refusal:
        prepare(Remembers())
    assert refusal.value.culprits == ("E: Unable to locate package python3-minimal",)
    assert "--mirror URL --release" in refusal.value.remedy


def test_mirror_needs_debians_keys(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of a mirror are never taken unchecked: without the keys it is refused, with them they are named."""
    mirror = Mirror(url="https://debian.example/debian", release="bookworm")
    monkeypatch.setattr(debian, "KEYRING", asked.parent / "keys.gpg")
    with pytest.raises(SlimError, match=r"can't be checked: .*keys\.gpg is missing"):
        prepare(Remembers(), mirror=mirror)
    (asked.parent / "keys.gpg").write_text("")
    assert prepare(Remembers(), mirror=mirror).facts.source == str(mirror)


def test_apt_writes_nowhere_else(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder in apt's configuration is the preparation's, and the machine's own hooks are cleared."""
    found: list[str] = []
    make = debian.Apt.fetch

    def fetch(apt: debian.Apt, packages: list[str]) -> list[Path]:
        found.append(apt.config.read_text())
        return make(apt, packages)

    monkeypatch.setattr(debian.Apt, "fetch", fetch)
    folder = prepare(Remembers()).folder
    places = [line.split('"')[1] for line in found[0].splitlines() if line.startswith("Dir::")]
    assert places
    assert all(place.startswith(f"{folder}{os.sep}apt") for place in places)
    assert all(f"#clear {hook};" in found[0] for hook in debian.HOOKS)
    assert (folder / MANIFEST).is_file()


def test_apt_problems_are_its_own_words() -> None:
    """Warnings and errors are shown once each; without any, the end of what was said."""
    assert problems("Get:1 x\nW: slow\nE: no space\nE: no space\n") == ["W: slow", "E: no space"]
    assert problems("one\ntwo\n") == ["one", "two"]
