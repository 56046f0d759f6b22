"""``yolo-slim device``: the devices that bundles run on."""

from __future__ import annotations

import click

from yolo_slim.cli.answer import answer
from yolo_slim.cli.group import Group, cli
from yolo_slim.cli.options import answering
from yolo_slim.cli.progress import listening
from yolo_slim.errors import SlimError


@cli.group(cls=Group)
def device() -> None:
    """Name the devices that you have, and prepare emulated ones."""


@device.command()
@click.option("--fresh", is_flag=True, help="Make the emulated system again even if it is prepared.")
@click.option("--mirror", metavar="URL", help="A Debian mirror, if this machine's own sources have no arm64.")
@click.option("--release", metavar="NAME", help="The mirror's release, such as bookworm.")
@answering
def prepare(fresh: bool, mirror: str | None, release: str | None, quiet: bool, as_json: bool) -> None:
    """Prepare the emulated Raspberry Pi 4 and 5, once.

    It downloads Debian's Python for arm64, and wheels of this machine's versions, to the user's cache. It needs apt and
    pip, not root.
    """
    from yolo_slim.devices.emulated.debian import Mirror
    from yolo_slim.devices.emulated.prepare import prepare as make
    from yolo_slim.devices.emulated.processors import PROCESSORS

    if (mirror is None) != (release is None):
        raise SlimError(
            "--mirror and --release go together.", remedy="Give both, or neither for this machine's sources."
        )
    with listening(quiet=quiet) as listener:
        chosen = Mirror(url=mirror, release=release) if mirror and release else None
        root = make(listener, fresh=fresh, mirror=chosen)
    facts = root.facts
    text = (
        f"{', '.join(PROCESSORS)} are prepared: {facts.source}, Python {facts.python}, QEMU {facts.qemu_version}, "
        f"{', '.join(facts.wheels)}\n{facts.size_mb:.0f} MB in {root.folder}, made in {facts.seconds:.0f} s"
    )
    answer({"folder": str(root.folder), **facts.to_json()}, as_json=as_json, text=text)
