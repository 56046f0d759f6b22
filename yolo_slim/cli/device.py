"""``yolo-slim device``: the devices that bundles run on."""

from __future__ import annotations

from yolo_slim.cli.group import Group, cli


@cli.group(cls=Group)
def device() -> None:
    """Name the devices that you have, and prepare emulated ones."""
