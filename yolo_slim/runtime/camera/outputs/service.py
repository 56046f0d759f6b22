"""The camera as a systemd service: starts with the device, and again when it fails or hangs.

``man systemd.service``, ``man systemd.exec``, ``man sd_notify``.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import SlimError
from yolo_slim.files import write_text
from yolo_slim.runtime.camera.outputs.refusal import refusals_explained
from yolo_slim.runtime.camera.passwords import VARIABLES

NAME = "yolo-slim-camera.service"
SECRETS = "yolo-slim-camera.env"
"""File of passwords that a unit reads where it is: in /etc, or in ~/.config for a unit of a user."""
MARK = "# Written by yolo_slim:"
"""A unit that doesn't begin so was written by someone else."""
WATCHDOG_S = 120
"""Seconds without a sign of life after which systemd kills the camera and starts it again."""
_OWN_OPTIONS = ("--install-service", "--print-service", "--user")


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What the service runs, and as whom."""

    arguments: tuple[str, ...]
    """Of the camera command, as it was called: ``("camera", "bundle", "--source", "0", ...)``."""
    folder: Path
    """Where it was called: relative paths stay what they are."""
    user: str = ""
    """Of a unit of the system; empty: a unit of the user who installs it."""
    python: str = sys.executable
    python_path: str = ""
    """``PYTHONPATH``, where yolo_slim isn't installed."""


def unit(settings: ServiceSettings) -> str:
    """The text of the unit."""
    command = [settings.python, "-m", "yolo_slim.runtime", *_without_own(settings.arguments)]
    # A camera that USB finds late ends with 2, as bad input does: both are tried again, but not for ever.
    return f"""{MARK} python -m yolo_slim.runtime camera ... --install-service
[Unit]
Description=yolo_slim camera
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=30

[Service]
Type=notify
ExecStart={" ".join(_quoted(word, is_command=True) for word in command)}
WorkingDirectory={_escaped_path(settings.folder)}
Environment=PYTHONUNBUFFERED=1
EnvironmentFile=-%E/{SECRETS}
{_environment(settings)}Restart=on-failure
RestartSec=10
TimeoutStartSec=600
TimeoutStopSec=30
WatchdogSec={WATCHDOG_S}
NoNewPrivileges=yes

[Install]
WantedBy={"multi-user.target" if settings.user else "default.target"}
"""


def system_instructions(settings: ServiceSettings) -> str:
    """What to type for a service of the system. Nothing is written, because that needs root."""
    path = Path("/etc/systemd/system") / NAME
    again = shlex.join(["camera", *_without_own(settings.arguments)[1:], "--print-service"])
    return (
        f"{unit(settings)}\n"
        f"# Nothing was written. To install this unit for the whole system:\n"
        f"#   {shlex.quote(settings.python)} -m yolo_slim.runtime {again} | sudo install -m 600 /dev/stdin {path}\n"
        f"#   sudo systemctl daemon-reload\n"
        f"#   sudo systemctl enable --now {NAME}\n"
        f"# Passwords ({', '.join(VARIABLES)}) can stand in /etc/{SECRETS} (chmod 600), as NAME='VALUE'.\n"
        f"# For your user alone, without root: add --user.\n"
    )


def install_user_unit(settings: ServiceSettings) -> str:
    """Write the unit of this user, and return what to type next. Starts nothing.

    Raises:
        SlimError: there is a unit of someone else, or the folder can't be written.
    """
    path = user_unit_path()
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise SlimError(f"{path} wasn't written by yolo_slim.", remedy="Move it away, then run the command again.")
    with refusals_explained(path, "Check the permissions of the folder, or use --print-service."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, unit(settings))
        # The command may contain passwords: of a stream, of a broker, the page's token.
        path.chmod(0o600)
    return (
        f"Written: {path}\n"
        f"Start it now and at every login:\n"
        f"  systemctl --user daemon-reload\n"
        f"  systemctl --user enable --now {NAME}\n"
        f"Start it when the device starts, before anyone logs in:\n"
        f"  sudo loginctl enable-linger {os.environ.get('USER', '$USER')}\n"
        f"Passwords ({', '.join(VARIABLES)}) can stand in a file of yours alone, as NAME='VALUE':\n"
        f"  {path.parents[2] / SECRETS}\n"
        f"Read what it says:\n"
        f"  journalctl --user -u {NAME} -f"
    )


def user_unit_path() -> Path:
    """Where systemd looks for the units of this user."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "systemd" / "user" / NAME


def _without_own(arguments: Sequence[str]) -> list[str]:
    return [word for word in arguments if word not in _OWN_OPTIONS]


def _environment(settings: ServiceSettings) -> str:
    """Lines that only some units need."""
    lines = [f"User={settings.user}"] if settings.user else []
    lines += [f"Environment={_quoted('PYTHONPATH=' + settings.python_path)}"] if settings.python_path else []
    return "".join(f"{line}\n" for line in lines)


def _quoted(word: str, *, is_command: bool = False) -> str:
    """A word as systemd reads it; in commands ``$`` begins a variable, and ``%`` begins a specifier everywhere."""
    if re.search(r"[\0\n\r]", word):
        raise SlimError(f"A service can't have a line break in an argument: {word!r}.")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = escaped.replace("$", "$$") if is_command else escaped
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else f'"{escaped}"'


def _escaped_path(path: Path) -> str:
    """A folder as systemd reads it: the rest of the line, without quotes."""
    text = str(path.absolute())
    if re.search(r"[\0\n\r]", text):
        raise SlimError(f"A service can't run in a folder with a line break in its name: {text!r}.")
    return text.replace("%", "%%")
