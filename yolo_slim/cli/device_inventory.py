"""``yolo-slim device add``, ``list``, ``show``, ``remove`` and ``clean``: the devices that are reached over SSH."""

from __future__ import annotations

from pathlib import Path

import click

from yolo_slim.cli.answer import answer, as_yaml, in_columns
from yolo_slim.cli.device import device
from yolo_slim.cli.inputs import INPUT
from yolo_slim.cli.options import as_json, complete_target


def complete_device(_: click.Context, __: click.Parameter, start: str) -> list[str]:
    """Complete the names of devices in a shell."""
    from yolo_slim.devices import inventory

    return [name for name in inventory.load() if name.startswith(start)]


@device.command()
@click.argument("name")
@click.argument("host")
@click.option("--target", required=True, shell_complete=complete_target, help="Profile of the device.")
@click.option("--user", help="User on the device. [default: the ssh configuration's]")
@click.option("--port", type=int, help="Port of SSH. [default: the ssh configuration's]")
@click.option("--identity", type=INPUT, help="File of the private key. [default: the ssh configuration's]")
@click.option("--folder", help="Folder on the device for all files. [default: ~/.cache/yolo_slim/device]")
@click.option("--python", help="Python on the device that already has the packages. [default: a new environment]")
@click.option("--replace", is_flag=True, help="Replace the device of that name.")
def add(
    name: str,
    host: str,
    target: str,
    user: str | None,
    port: int | None,
    identity: Path | None,
    folder: str | None,
    python: str | None,
    replace: bool,
) -> None:
    """Give a device a name.

    HOST is [user@]host[:port], or a Host of your ssh configuration. Nothing is sent to it.
    """
    from yolo_slim.config import targets
    from yolo_slim.config.strict import parse
    from yolo_slim.devices import inventory
    from yolo_slim.devices.ssh.address import Address

    typed = Address.parse(host)
    given = {
        "host": typed.host, "target": targets.anywhere(target), "user": user or typed.user,
        "port": typed.port if port is None else port,
        "identity": identity and str(identity.absolute()), "folder": folder, "python": python,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    entry = parse(inventory.Entry, options, "options", {key: key for key in options if key != "host"})
    inventory.add(name, entry, replace=replace)
    goal = "jetson" if any(build.runtime == "tensorrt" for build in targets.load(entry.target).builds) else "rpi"
    used = f"--host {name}, or make {goal} HOST={name} TARGET={entry.target}"
    click.echo(f"{name}: {entry.address(name).typed}, target {entry.target}. Use it: {used}")


def _emulated() -> str:
    """Which emulated boards there are, and whether they are prepared."""
    from yolo_slim.devices.emulated.processors import PROCESSORS
    from yolo_slim.devices.emulated.root import find_root

    return ", ".join(PROCESSORS) + ("" if find_root() else " (not prepared: yolo-slim device prepare)")


@device.command("list")
@as_json
def list_devices(as_json: bool) -> None:
    """List your devices."""
    from yolo_slim.devices import inventory

    known = inventory.load()
    values = {name: entry.model_dump(exclude_defaults=True) for name, entry in known.items()}
    rows = [(name, f"{entry.target:<18} {entry.address(name).typed}") for name, entry in known.items()]
    text = in_columns(rows) if rows else "You have none. Add one: yolo-slim device add NAME HOST --target rpi5"
    text += f"\nEmulated: {_emulated()}"
    answer(values, as_json=as_json, text=text)


@device.command()
@click.argument("name", shell_complete=complete_device)
@as_json
def show(name: str, as_json: bool) -> None:
    """Show what a device is, and whether it answers.

    Also how it is reached, and what yolo_slim keeps there.
    """
    from yolo_slim.devices import inventory
    from yolo_slim.devices.ssh.care import look

    entry = inventory.entry_of(name)
    seen = look(entry.address(name))
    about = {key: seen.about[key] for key in ("system", "arch", "python", "user", "folder", "free_mb")}
    values = {
        "device": {"name": name, **entry.model_dump(exclude_defaults=True)}, "found": about,
        "kept_mb": dict(seen.sizes), "used_by": seen.holder or "nobody",
    }  # fmt: skip
    answer(values, as_json=as_json, text=as_yaml(values))


@device.command()
@click.argument("name", shell_complete=complete_device)
def remove(name: str) -> None:
    """Forget a device. Its files stay: give `device clean` before."""
    from yolo_slim.devices import inventory

    inventory.remove(name)
    click.echo(f"{name} is forgotten.")


@device.command()
@click.argument("name", shell_complete=complete_device)
@click.option("--all", "everything", is_flag=True, help="Remove everything that yolo_slim keeps there.")
def clean(name: str, everything: bool) -> None:
    """Remove from a device what it doesn't need now.

    These are bundles, images and environments. NAME may be an address.
    """
    from yolo_slim.devices import inventory
    from yolo_slim.devices.ssh.care import clean as clean_device

    freed = clean_device(inventory.address_of(name), everything=everything)
    click.echo(f"{name}: {freed:.0f} MB freed.")
