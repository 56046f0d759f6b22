"""A device that can't be reached, isn't trusted or can't be used: one message says what it is and what to type."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.sshd import Sshd, free_port, make_key
from yolo_slim.config import targets
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.device import open_device
from yolo_slim.devices.ssh.link import Link
from yolo_slim.devices.ssh.refusals import explain
from yolo_slim.devices.ssh.usable import clock_warnings, require_usable
from yolo_slim.errors import SlimError
from yolo_slim.progress import Silent

Staged = Callable[..., Address]


def refusal(address: Address) -> SlimError:
    """Return why a device can't be connected to."""

    async def reach() -> None:
        link = await Link.open(address)
        await link.close()

    with pytest.raises(SlimError) as found:
        asyncio.run(reach())
    return found.value


def refusal_of_run(address: Address, target: str = "host", **settings: bool) -> SlimError:
    """Return why a run can't open a device."""
    with pytest.raises(SlimError) as found:
        open_device(address, targets.load(target), DeviceConfig(host="x", **settings), Silent())
    return found.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi", ("pi", None, None)),
        ("pi@raspberrypi.local", ("raspberrypi.local", "pi", None)),
        ("pi@10.0.0.7:2222", ("10.0.0.7", "pi", 2222)),
        ("[fe80::1%eth0]:22", ("fe80::1%eth0", None, 22)),
    ],
)
def test_addresses(text: str, expected: tuple[str, str | None, int | None]) -> None:
    """Host, user and port are taken apart."""
    found = Address.parse(text)
    assert (found.host, found.user, found.port) == expected


@pytest.mark.parametrize("text", ["", "a b", "pi@", "@pi", "-oProxyCommand=x", "fe80::1", "a@b@c"])
def test_what_is_no_address(text: str) -> None:
    """What isn't one is refused, above all what ssh would read as an option."""
    with pytest.raises(SlimError, match="Not an address"):
        Address.parse(text)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_what_is_no_port(port: str) -> None:
    """An address whose port can't be one is refused for its port."""
    with pytest.raises(SlimError, match=f"^Port {port} of 'pi:{port}' is not a port"):
        Address.parse(f"pi:{port}")
    assert Address.parse("pi:65535").port == 65535


def test_nobody_listens(home: Path) -> None:
    """A closed port is said to be one."""
    found = refusal(Address(name="pi", host="127.0.0.1", port=free_port()))
    assert "pi refuses SSH" in found.fact
    assert "port" in found.remedy


def test_no_such_name() -> None:
    """A name that isn't known is said to be one; mDNS is mentioned where it matters."""
    address = Address(name="pi", host="raspberrypi.local")
    found = explain(socket.gaierror(-2, "Name or service not known"), address, lambda: False)
    assert found is not None
    assert "no machine is called raspberrypi.local" in found.fact
    assert "mDNS" in found.remedy


def test_something_else_listens(home: Path) -> None:
    """A server of another kind gives one message."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address(name="pi", host="127.0.0.1", port=server.getsockname()[1])

        async def reach() -> None:
            task = asyncio.create_task(Link.open(address))
            connection, _ = await asyncio.to_thread(server.accept)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40)
            connection.close()
            await task

        with pytest.raises(SlimError, match="pi"):
            asyncio.run(reach())


def test_unknown_host_key(board: Address, home: Path) -> None:
    """A device that known_hosts doesn't name isn't trusted, and the message says how it will be."""
    (home / ".ssh/known_hosts").unlink()
    found = refusal(board)
    assert "isn't in known_hosts" in found.fact
    assert "ssh board" in found.remedy


def test_known_hosts_cannot_be_turned_off(board: Address, home: Path) -> None:
    """What makes ssh trust anybody doesn't make yolo_slim."""
    config = home / ".ssh/config"
    config.write_text(f"{config.read_text()}  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    asyncio.run(_opened(board))
    (home / ".ssh/known_hosts").unlink()
    assert "isn't in known_hosts" in refusal(board).fact


async def _opened(address: Address) -> None:
    link = await Link.open(address)
    await link.close()


def test_jump_host(board: Address, home: Path, sshd: Sshd) -> None:
    """A device behind another one is reached through it, and the other one's key is checked too."""
    config, known = home / ".ssh/config", home / ".ssh/known_hosts"
    behind = config.read_text().replace("Host board", "Host behind") + "  ProxyJump board\n"
    config.write_text(f"{config.read_text()}{behind}Host *\n  UserKnownHostsFile none\n")
    asyncio.run(_opened(replace(board, host="behind")))
    known.unlink()
    found = refusal(replace(board, host="behind"))
    assert found.remedy.endswith("ssh board")


def test_changed_host_key(board: Address, home: Path, tmp_path: Path) -> None:
    """Another machine under a known address is refused with the way to forget the old key."""
    known = home / ".ssh/known_hosts"
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().split()[:2]
    known.write_text(" ".join([known.read_text().split()[0], *other]) + "\n")
    found = refusal(board)
    assert "another machine answers" in found.fact
    assert "ssh-keygen -R" in found.remedy


def test_wrong_key(board: Address, home: Path, tmp_path: Path) -> None:
    """A key that the device doesn't accept: the remedy copies it there; no password is asked for."""
    config = home / ".ssh/config"
    config.write_text(re.sub("IdentityFile .*", f'IdentityFile "{make_key(tmp_path / "wrong")}"', config.read_text()))
    found = refusal(board)
    assert "accepts none of your keys" in found.fact
    assert "ssh-copy-id" in found.remedy


def test_key_with_passphrase(board: Address, home: Path, tmp_path: Path) -> None:
    """A key that can't be read without its passphrase is used through the agent."""
    config = home / ".ssh/config"
    locked = make_key(tmp_path / "locked", "secret")
    config.write_text(re.sub("IdentityFile .*", f'IdentityFile "{locked}"', config.read_text()))
    assert "ssh-add" in refusal(board).remedy
    assert "ssh-add" in refusal(replace(board, identity=locked)).remedy


def test_key_that_is_not_there(board: Address, tmp_path: Path) -> None:
    """The path is named."""
    found = refusal(Address(name="pi", host="board", identity=tmp_path / "none"))
    assert "none" in found.fact


def test_broken_configuration(board: Address, home: Path) -> None:
    """A mistake in the ssh configuration is said to be there."""
    (home / ".ssh/config").write_text("Host board\n  Port many\n")
    assert "ssh configuration" in refusal(board).fact


@pytest.mark.parametrize(("version", "found"), [("", "no Python 3.10 or newer."), ("3.9.2", "found: python3 3.9.2")])
def test_no_python(version: str, found: str, staged: Staged, tmp_path: Path) -> None:
    """A device without Python, or with an old one, is named with what it has."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "tail"):
        (programs / name).symlink_to(str(shutil.which(name)))
    if version:
        old = programs / "python3"
        old.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo {version} ;; *) exit 1 ;; esac\n')
        old.chmod(0o755)
    assert found in refusal(staged(PATH=str(programs))).fact


def test_login_script_that_prints(staged: Staged) -> None:
    """Lines before the agent's first are passed over; a script that never ends printing is named."""
    asyncio.run(_opened(staged(before="echo Welcome; echo '{}';")))
    assert ".bashrc" in refusal(staged(before="yes |  head -n 1000;")).remedy


def test_32_bit(staged: Staged) -> None:
    """A system of 32 bits has no packages, and the message says what to do."""
    found = refusal_of_run(staged("import sys; sys.maxsize = 2**31 - 1"))
    assert "32-bit" in found.fact
    assert "64-bit" in found.remedy


def test_noexec(staged: Staged) -> None:
    """A folder from which nothing may be run is refused before anything is sent."""
    prelude = "import os; o=os.statvfs; os.statvfs = lambda p: os.statvfs_result([*o(p)[:8], 8, 255])"
    found = refusal_of_run(staged(prelude))
    assert "noexec" in found.fact
    assert "--folder" in found.remedy


def test_no_write_permission(board: Address, tmp_path: Path) -> None:
    """A folder that can't be made is named."""
    (tmp_path / "file").write_text("")
    found = refusal(Address(name="pi", host="board", folder=str(tmp_path / "file/folder")))
    assert "can't be written" in found.fact
    assert str(tmp_path / "file") in found.fact


def test_a_folder_of_the_users_own(board: Address, tmp_path: Path) -> None:
    """A folder that contains anything else is refused, and stays as it is."""
    own = tmp_path / "home of the device"
    (own / "runs").mkdir(parents=True)
    (own / "runs/precious").write_text("")
    found = refusal(replace(board, folder=str(own)))
    assert "didn't write" in found.fact
    assert sorted(path.name for path in own.rglob("*")) == ["precious", "runs"]


def test_no_pip(staged: Staged) -> None:
    """Without pip, venv and uv there are two ways: install it, or let this machine send it."""
    prelude = "import importlib.util, shutil; importlib.util.find_spec = shutil.which = lambda *_: None"
    found = refusal_of_run(staged(prelude))
    assert "no pip" in found.fact
    assert "python3-venv" in found.remedy
    assert "--offline" in found.remedy


def test_no_network_on_the_device(staged: Staged, tmp_path: Path) -> None:
    """A device that reaches no package index is offered the way without one, and nothing is left half installed."""
    # uv makes an environment without pip's seconds; it is found where venv isn't.
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "uv").write_text('#!/bin/sh\n[ "$1" = venv ] && exit 0\necho "error: dns failure" >&2\nexit 2\n')
    (programs / "uv").chmod(0o755)
    address = staged("import importlib.util; importlib.util.find_spec = lambda *_: None")
    found = refusal_of_run(address)
    assert "can't be installed" in found.fact
    assert found.culprits == ("error: dns failure",)
    assert "--offline" in found.remedy
    assert not list(Path(address.folder).glob("env/*/.ready"))


def test_no_room_for_the_environment(staged: Staged) -> None:
    """A nearly full disk is refused before anything is installed."""
    prelude = "import os; o=os.statvfs; os.statvfs = lambda p: os.statvfs_result([*o(p)[:4], 9999, *o(p)[5:]])"
    assert "MB left" in refusal_of_run(staged(prelude)).fact


def test_another_device_than_the_target(board: Address) -> None:
    """Every difference is named, and nothing is sent but the device half of yolo_slim."""
    found = refusal_of_run(board, "rpi5")
    assert "isn't a rpi5" in found.fact
    assert {culprit.split(":")[0] for culprit in found.culprits} >= {"device"}
    assert "--any-device" in found.remedy
    assert not (Path(board.folder) / "env").exists()


def test_any_device(board: Address) -> None:
    """With --any-device it is used, and never taken for the target."""
    profile = targets.load("rpi5")
    device = open_device(board, profile, DeviceConfig(host="x", any_device=True), Silent())
    assert not device.is_target(profile)
    device.close()


def test_a_python_without_packages(board: Address, staged: Staged, tmp_path: Path) -> None:
    """A Python of the inventory that lacks packages is refused with their names; nothing is installed into it."""
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{board.python}" -S "$@"\n')
    bare.chmod(0o755)
    found = refusal_of_run(Address(name="pi", host="board", folder=board.folder, python=str(bare)))
    assert any("onnxruntime" in culprit for culprit in found.culprits)


@pytest.mark.parametrize(
    ("skew_s", "text"), [(5, ""), (-600, "10 minutes behind"), (90000, "25.0 hours ahead"), (-90000, "--offline")]
)
def test_clocks(skew_s: float, text: str) -> None:
    """A clock that is far off is said to be, with what it spoils."""
    assert text in "".join(clock_warnings("pi", skew_s))
    assert bool(clock_warnings("pi", skew_s)) is bool(text)


def test_clock_of_a_device(staged: Staged) -> None:
    """The device's own clock is read."""

    async def skew() -> float:
        link = await Link.open(staged("import time; t = time.time; time.time = lambda: t() - 90000"))
        await link.close()
        return link.skew_s

    assert asyncio.run(skew()) == pytest.approx(-90000, abs=30)


@pytest.mark.parametrize(("system", "bits"), [("Darwin", 64), ("Linux", 32)])
def test_systems_without_packages(system: str, bits: int) -> None:
    """Only 64-bit Linux is used."""
    with pytest.raises(SlimError, match=f"{bits}-bit {system}"):
        require_usable("pi", {"system": system, "bits": bits, "is_noexec": False, "folder": "/x"})


def test_the_server_names_its_host(sshd: Sshd) -> None:
    """The helper's line of known_hosts is of the form that ssh writes for a port."""
    assert sshd.known_hosts().startswith(f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")
