"""The camera as a systemd service, and its signs of life."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs.health import Health
from yolo_slim.runtime.camera.outputs.service import (
    NAME,
    ServiceSettings,
    install_user_unit,
    system_instructions,
    unit,
    user_unit_path,
)
from yolo_slim.runtime.camera.outputs.watchdog import Watchdog, notify, watchdog_s

ARGUMENTS = ("camera", "my bundle", "--source", "rtsp://u:50%$x@cam/1?a=b", "--clip-on", 'a"b\\c', "--install-service")


def settings(folder: Path, user: str = "", arguments: tuple[str, ...] = ARGUMENTS) -> ServiceSettings:
    """A service in a folder."""
    return ServiceSettings(arguments=arguments, folder=folder, user=user, python_path="/opt/with space")


def line(text: str, key: str) -> str:
    """The value of a key of a unit."""
    (found,) = [one.partition("=")[2] for one in text.splitlines() if one.startswith(f"{key}=")]
    return found


def test_a_unit_starts_the_same_camera(tmp_path: Path) -> None:
    """In the same folder, with every sign that means something to systemd escaped, without the option that made it."""
    text = unit(settings(tmp_path))
    assert line(text, "ExecStart") == (
        f'{sys.executable} -m yolo_slim.runtime camera "my bundle" --source "rtsp://u:50%%$$x@cam/1?a=b"'
        r' --clip-on "a\"b\\c"'
    )
    assert line(text, "WorkingDirectory") == str(tmp_path)
    assert 'Environment="PYTHONPATH=/opt/with space"' in text
    assert (line(text, "Restart"), line(text, "Type"), line(text, "WatchdogSec")) == ("on-failure", "notify", "120")
    assert line(unit(settings(tmp_path / "50%h")), "WorkingDirectory") == f"{tmp_path}/50%%h"
    assert "User=" not in text
    assert line(text, "EnvironmentFile") == "-%E/yolo-slim-camera.env"
    assert line(text, "WantedBy") == "default.target"


def test_a_unit_of_the_system_runs_as_a_user(tmp_path: Path) -> None:
    """Never as root by accident."""
    text = unit(settings(tmp_path, user="pi"))
    assert line(text, "User") == "pi"
    assert line(text, "WantedBy") == "multi-user.target"


def verify(text: str, folder: Path) -> str:
    """What systemd-analyze says of a unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")
    path = folder / NAME
    path.write_text(text)
    done = subprocess.run([program, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze can't work here: {done.stderr.strip()}")
    return "".join(one for one in done.stderr.splitlines(keepends=True) if NAME in one)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """Of the system and of a user, in a folder with spaces and a percent sign."""
    folder = tmp_path / "a 50% b"
    folder.mkdir()
    assert verify(unit(settings(folder, user="root")), tmp_path) == ""
    assert verify(unit(settings(folder)), tmp_path) == ""


def test_systemd_finds_what_is_wrong(tmp_path: Path) -> None:
    """Negative control: a key that doesn't exist is named."""
    assert "Unknown key" in verify(unit(settings(tmp_path)).replace("RestartSec", "RestartSecs"), tmp_path)


@pytest.mark.parametrize("word", ["a\nUser=root", "a\rb", "a\0b"])
def test_a_line_break_cannot_add_lines_to_a_unit(word: str, tmp_path: Path) -> None:
    """Neither in an argument nor in the folder's name."""
    with pytest.raises(SlimError, match="line break"):
        unit(settings(tmp_path, arguments=("camera", word)))
    with pytest.raises(SlimError, match="line break"):
        unit(settings(tmp_path / word))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Units of the user go into a folder of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_a_user_unit_is_written_on_request(home: Path) -> None:
    """It may contain passwords, so nobody else reads it; what to type next is said, nothing is started."""
    said = install_user_unit(settings(home))
    path = user_unit_path()
    assert path == home / "config/systemd/user" / NAME
    assert path.read_text() == unit(settings(home))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"systemctl --user enable --now {NAME}" in said
    assert f"  {home / 'config/yolo-slim-camera.env'}\n" in said
    install_user_unit(settings(home, arguments=("camera", "other")))
    assert "other" in path.read_text()


def test_a_unit_of_someone_else_stays(home: Path) -> None:
    """It has the same name, and wasn't written by us."""
    path = user_unit_path()
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\n")
    with pytest.raises(SlimError, match="wasn't written by yolo_slim"):
        install_user_unit(settings(home))
    assert path.read_text() == "[Service]\n"


def test_a_system_unit_is_only_shown(home: Path) -> None:
    """With the commands that install it; nothing is written."""
    text = system_instructions(settings(home, user="pi"))
    assert text.startswith(unit(settings(home, user="pi")))
    assert "sudo systemctl enable --now" in text
    assert "--print-service | sudo install -m 600 /dev/stdin /etc/systemd/system/" in text
    assert not (home / "config").exists()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens with."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        path = tmp_path / "s"
        receiver.bind(str(path))
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield receiver


def state(*, is_stuck: bool) -> Health:
    """A camera that is live, or believes so."""
    return Health(is_serving=not is_stuck, is_stuck=is_stuck, state="live", age_s=0.25, reason="")


def test_a_camera_that_lives_says_so(manager: socket.socket) -> None:
    """Ready once, then signs of life with a status, in time; at the end that it stops."""
    dog = Watchdog(lambda: state(is_stuck=False))
    dog.start()
    assert manager.recv(999) == b"READY=1\nSTATUS=started"
    assert manager.recv(999) == b"STATUS=live, newest frame 0.2 s old.\nWATCHDOG=1"
    assert b"WATCHDOG=1" in manager.recv(999)
    dog.close()
    while (message := manager.recv(999)) != b"STOPPING=1":
        assert b"WATCHDOG=1" in message


def test_a_camera_that_hangs_gives_no_sign_of_life(manager: socket.socket) -> None:
    """Then systemd starts it again."""
    dog = Watchdog(lambda: state(is_stuck=True))
    dog.start()
    manager.recv(999)
    assert b"WATCHDOG" not in manager.recv(999)
    dog.close()


def test_figures_that_cannot_be_had_are_no_sign_of_life(manager: socket.socket) -> None:
    """A camera that doesn't answer hangs."""

    def fail() -> Health:
        raise RuntimeError

    dog = Watchdog(fail)
    dog.start()
    manager.recv(999)
    manager.settimeout(0.3)
    with pytest.raises(TimeoutError):
        manager.recv(999)
    dog.close()


def test_outside_a_service_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is no socket, or nobody listens; a watchdog of another process isn't ours."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() is None
    monkeypatch.delenv("WATCHDOG_PID")
    assert watchdog_s() == 1.0
    monkeypatch.setenv("WATCHDOG_USEC", "x")
    assert watchdog_s() is None


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some managers give one without a file."""
    name = f"yolo_slim-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1")
        assert receiver.recv(99) == b"READY=1"
