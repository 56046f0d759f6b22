"""``yolo-slim nightly dashboard``: the history as static pages."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from yolo_slim.cli.answer import answer
from yolo_slim.cli.nightly import history_option, nightly
from yolo_slim.cli.options import PATH, as_json

DEFAULT = Path("runs/nightly/dashboard")


@nightly.command("dashboard")
@history_option
@click.option(
    "--out",
    type=PATH,
    default=DEFAULT,
    show_default=True,
    help="Folder for the pages; an older dashboard there is replaced.",
)
@as_json
def dashboard(history: Path, out: Path, as_json: bool) -> None:
    """Write the history as static pages.

    Each cell and each device has a page with its trends. Any two runs can be compared.

    The folder opens from a disk (index.html) and from any web server; nothing is fetched from elsewhere.
    """
    from yolo_slim.history.store import History
    from yolo_slim.reporting.dashboard.site import write_dashboard

    with History.open(history) as opened:
        site = write_dashboard(opened, out)
    head = f"{site.cells} cells, {site.nights} nights: {site.files} files, {site.megabytes} MB"
    answer(asdict(site), as_json=as_json, text="\n".join((head, *site.notes, f"open {site.index}")))
