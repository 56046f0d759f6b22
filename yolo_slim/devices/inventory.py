"""The user's devices by name: ``devices.yaml`` in the folder of the user's configuration."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from yolo_slim.config import targets
from yolo_slim.config.strict import Frozen, parse, read_yaml
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.ssh.address import FOLDER, Address
from yolo_slim.errors import SlimError, did_you_mean, os_errors_explained
from yolo_slim.files import write_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
HEAD = "# The devices of yolo_slim: written by `yolo-slim device add`, may be edited.\n"


class Entry(Frozen):
    """One device of the inventory."""

    host: str
    """Name, number, or a ``Host`` of the ssh configuration."""
    target: str
    """Profile of the device."""
    user: str | None = None
    """User there; none: the ssh configuration's."""
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    """Port; none: the ssh configuration's."""
    identity: str | None = None
    """File of the private key; none: the ssh configuration's, the agent's or the usual ones."""
    folder: str = FOLDER
    """Folder on the device for everything of yolo_slim."""
    python: str | None = None
    """Python on the device that has the packages already; none: an environment is made."""

    def address(self, name: str) -> Address:
        """Where it is."""
        identity = Path(self.identity).expanduser() if self.identity else None
        return Address(
            name=name, host=self.host, user=self.user, port=self.port, identity=identity, folder=self.folder,
            python=self.python,
        )  # fmt: skip


def inventory_path() -> Path:
    """Find the inventory's file."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "yolo_slim" / "devices.yaml"


def load() -> dict[str, Entry]:
    """Read the inventory; no file is an empty one.

    Raises:
        SlimError: keys and values that aren't valid, of all devices at once.
    """
    path = inventory_path()
    if not path.is_file() or not path.read_text(encoding="utf-8").replace(HEAD, "").strip():
        return {}
    values, culprits, found = read_yaml(path), list[str](), dict[str, Entry]()
    for name, value in values.items():
        try:
            _require_name(str(name))
            given = value if isinstance(value, Mapping) else {}
            found[str(name)] = parse(Entry, given, f"{path}: {name}")
        except SlimError as error:
            culprits += [f"{name}: {culprit}" for culprit in error.culprits] or [error.fact]
    if culprits:
        raise SlimError(
            f"{path} isn't a valid inventory.",
            culprits=culprits,
            remedy="Correct it, or remove that device from it.",
            topic="settings-arent-valid",
        )
    return found


def add(name: str, entry: Entry, *, replace: bool = False) -> None:
    """Write a device into the inventory.

    Raises:
        SlimError: a name that isn't one or is taken, or an unknown target.
    """
    _require_name(name)
    if name in PROCESSORS:
        raise SlimError(f"{name} is the name of an emulated device.", remedy="Choose another name.")
    targets.load(entry.target)

    def change(known: dict[str, Entry]) -> None:
        if name in known and not replace:
            raise SlimError(
                f"There is a device called {name} already: {known[name].host}.",
                remedy=f"Choose another name, or remove it first: yolo-slim device remove {name}",
            )
        known[name] = entry

    _change(change)


def remove(name: str) -> None:
    """Take a device out of the inventory; nothing on the device is touched.

    Raises:
        SlimError: no such device.
    """
    entry_of(name)
    _change(lambda known: known.pop(name, None))


def entry_of(name: str) -> Entry:
    """Look a device up.

    Raises:
        SlimError: no such device.
    """
    known = load()
    if name not in known:
        raise SlimError(
            f"There is no device called {name} in your inventory.{did_you_mean(name, list(known))}",
            remedy=f"You have: {', '.join(known)}."
            if known
            else "Add one: yolo-slim device add NAME HOST --target rpi5",
        )
    return known[name]


def address_of(text: str) -> Address:
    """Find a device by its name in the inventory, else by its address.

    Raises:
        SlimError: neither, or an emulated device.
    """
    if text in PROCESSORS:
        raise SlimError(
            f"{text} is emulated on this machine, so it isn't reached over SSH.",
            remedy="Give a name of `yolo-slim device list`, or [user@]host[:port].",
        )
    known = load()
    return known[text].address(text) if text in known else Address.parse(text)


def target_of(host: str) -> str:
    """Find the target of a device: that of its entry in the inventory, or the board that is emulated.

    Raises:
        SlimError: nobody said what the device is.
    """
    if host in PROCESSORS:
        return next(name for name in targets.names() if PROCESSORS[host].stands_for(targets.load(name)))
    known = load()
    if host in known:
        return known[host].target
    Address.parse(host)
    raise SlimError(
        f"There is no target: {host} isn't in your inventory.{did_you_mean(host, list(known))}",
        remedy="Give --target (`yolo-slim targets` lists them; host is any machine), or name the device once: "
        "yolo-slim device add NAME HOST --target rpi5",
    )


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise SlimError(
            f"'{name}' can't be the name of a device.", remedy="Use letters, digits, - and _, without dots or @."
        )


def _change(change: Callable[[dict[str, Entry]], object]) -> None:
    """Read, change and write the inventory while nobody else does."""
    path = inventory_path()
    with os_errors_explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = load()
            change(known)
            values: dict[str, Any] = {
                name: entry.model_dump(exclude_defaults=True) for name, entry in sorted(known.items())
            }
            write_text(path, HEAD + (yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""))
