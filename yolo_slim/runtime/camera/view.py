"""The page of one camera: what it shows, and what it may change."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.draw import Shape, picture
from yolo_slim.runtime.camera.hub import Hub
from yolo_slim.runtime.camera.live import Live
from yolo_slim.runtime.camera.outputs.health import SERVING_S
from yolo_slim.runtime.camera.outputs.layout import Layout
from yolo_slim.runtime.camera.outputs.record import distinct
from yolo_slim.runtime.camera.page_commands import CameraCommand, SetClasses, SetConf, SetPaused, SetZones
from yolo_slim.runtime.camera.passwords import TOKEN
from yolo_slim.runtime.camera.qr import qr_text
from yolo_slim.runtime.camera.server import Callbacks, Running, ServerSettings, serve
from yolo_slim.runtime.camera.wiring import Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.bundle import BundleSpec
    from yolo_slim.runtime.camera.frame import Shown


class View:
    """Serves the page while the block runs."""

    def __init__(
        self,
        args: argparse.Namespace,
        live: Live,
        outputs: Outputs,
        bundles: Mapping[str, BundleSpec],
    ) -> None:
        self._live, self._outputs = live, outputs
        self._names = {name: spec.names for name, spec in bundles.items()}
        self._usual_conf = bundles["slim"].conf
        self._hub = Hub(self._draw)
        clips = outputs.clips
        callbacks = Callbacks(
            about=self._about, stats=self._stats, command=self._obey, metrics=outputs.metrics_text,
            clip=clips.save if clips else None,
        )  # fmt: skip
        self._settings = ServerSettings(
            host=args.listen,
            port=args.port,
            token=args.token or os.environ.get(TOKEN, ""),
            stale_s=SERVING_S,
            callbacks=callbacks,
        )
        self._running: Running | None = None

    def __enter__(self) -> View:
        """Serve.

        Raises:
            SlimError: aiohttp is missing, or the port is in use.
        """
        self._running = serve(self._hub, self._settings)
        self._hub.start()
        self._live.on_shown(self._hub.shown)
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._running.stop()
        self._hub.stop()

    @property
    def invitation(self) -> str:
        """The link, and on a terminal its QR code where a phone could open it."""
        if self._running is None:
            return ""
        link = self._running.link
        is_for_phones = bool(self._running.door.token) and sys.stderr.isatty()
        return f"{qr_text(link)}\nPage: {link}" if is_for_phones else f"Page: {link}"

    def _draw(self, shown: Shown) -> NDArray[np.uint8]:
        return picture(shown, self._current_names(), shapes=list(self._shapes()))

    def _current_names(self) -> Mapping[str, Mapping[int, str]]:
        """Class names; a bundle that was replaced may have others."""
        return {name: distinct(self._live.names(name) or names) for name, names in self._names.items()}

    def _shapes(self) -> Iterator[Shape]:
        layout, counts = self._outputs.counting.layout, self._outputs.counting.by_name()
        for line in layout.lines:
            yield Shape(points=(line.start, line.end), text=f"{line.name} {_text(counts.get(line.name))}")
        for zone in layout.zones:
            yield Shape(points=zone.points, text=f"{zone.name} {_text(counts.get(zone.name))}", is_closed=True)

    def _about(self) -> JsonObject:
        settings = self._live.settings
        return {
            "source": self._live.stats().source,
            "bundles": list(self._names),
            "names": {str(key): name for key, name in self._current_names()["slim"].items()},
            "conf": self._usual_conf if settings.conf is None else settings.conf,
            "classes": None if settings.classes is None else sorted(settings.classes),
            "paused": settings.paused,
            "zones": self._outputs.counting.layout.to_page(),
        }

    def _stats(self) -> JsonObject:
        return {**self._outputs.stats(), "counts": self._outputs.counting.by_name()}

    def _obey(self, command: CameraCommand) -> None:
        """Carry out what someone did on the page.

        Raises:
            SlimError: it can't be done; the page shows why.
        """
        if isinstance(command, SetConf):
            self._live.change(conf=command.conf)
        elif isinstance(command, SetClasses):
            self._live.change(classes=command.class_ids)
        elif isinstance(command, SetPaused):
            self._live.change(paused=command.is_paused)
        elif isinstance(command, SetZones):
            self._outputs.change_layout(Layout.from_page(command.zones, self._outputs.counting.layout.anchor))


def _text(counts: Any) -> str:
    """Counts for the picture: ``in 3 out 1``; nested counts of classes are left out."""
    if not isinstance(counts, Mapping):
        return ""
    return " ".join(f"{key} {value}" for key, value in counts.items() if isinstance(value, int))
