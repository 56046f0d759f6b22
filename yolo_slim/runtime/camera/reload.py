"""A bundle that is replaced on disk is loaded beside the running one, and takes its place between two frames."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np

from yolo_slim.bundle import BUNDLE_JSON
from yolo_slim.runtime.camera.journal import Journal, describe
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import Detector, StageTimes

State = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file."""


class Reloading:
    """A detector whose bundle, a folder or an archive, may be replaced while it runs.

    ``timed`` is for one thread, ``look`` for another one.
    """

    def __init__(self, detector: Detector, journal: Journal) -> None:
        self.detector = self._given = detector
        self._journal = journal
        self._path = detector.bundle.archive or detector.bundle.folder
        self._threads = None if detector.threads == detector.bundle.spec.threads else detector.threads
        self._next: Detector | None = None
        self._loaded = self._seen = self._tried = _state_of(self._path)

    def timed(self, image: Any, conf: float | None = None) -> tuple[Detections, StageTimes]:
        """As :meth:`Detector.timed`, by the newest bundle that works."""
        if self._next is not None:
            self.detector.close()
            self.detector, self._next = self._next, None
            self._journal.count("reloaded")
            self._journal.say(f"The bundle was replaced: {self.detector.bundle.spec.name} runs now.")
        return self.detector.timed(image, conf)

    def warm_up(self) -> None:
        """Run the model once, on a black picture."""
        _run_once(self.detector)

    def close_own(self) -> None:
        """Free every model that was loaded here; the first one is its giver's."""
        for one in (self.detector, self._next):
            if one is not None and one is not self._given:
                one.close()

    def look(self) -> None:
        """Load the bundle when it is a new one and its files have been at rest since the last look."""
        seen, before = _state_of(self._path), self._seen
        self._seen = seen
        # bundle.json is written last, and is missing while a folder is replaced. Any order of a copy is waited for.
        is_new = _mark(seen) not in (None, _mark(self._loaded))
        if not is_new or seen != before or seen == self._tried or self._next is not None:
            return
        self._tried = seen
        try:
            self._next = self._opened()
            self._loaded = seen
        except Exception as error:  # whatever is wrong with the new one, the old one goes on
            self._journal.error(
                "refused", f"The new bundle {self._path} is refused, the old one goes on: {describe(error)}"
            )

    def _opened(self) -> Detector:
        detector = Detector(self._path, self._threads)
        _run_once(detector)
        return detector


def _run_once(detector: Detector) -> None:
    """Run a model before its first frame, which pays for allocations, and shows whether the model runs at all."""
    height, width = detector.bundle.spec.imgsz
    detector.detect(np.zeros((height, width, 3), np.uint8))


class BundleWatch:
    """The thread that looks at the files of all bundles."""

    def __init__(self, watched: list[Reloading], every_s: float) -> None:
        self._watched, self._every_s = watched, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera-bundles", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End; a bundle that is being loaded is not waited for."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            for one in self._watched:
                one.look()


def _state_of(path: Path) -> State:
    """Every file of a bundle, or its archive; empty while there is none."""
    return tuple(sorted(filter(None, map(_entry_of(path), [path, *path.rglob("*")]))))


def _entry_of(bundle: Path) -> Callable[[Path], tuple[str, int, int] | None]:
    def entry(path: Path) -> tuple[str, int, int] | None:
        try:
            found = path.stat()
        except OSError:  # removed since it was listed
            return None
        # A folder's own time changes with every file that a device writes into it.
        is_folder, name = S_ISDIR(found.st_mode), path.relative_to(bundle).as_posix()
        return None if is_folder else (name, found.st_size, found.st_mtime_ns)

    return entry


def _mark(state: State) -> tuple[str, int, int] | None:
    """What is another one in every new bundle: its bundle.json or, as ``.``, the archive itself."""
    return next((entry for entry in state if entry[0] in (BUNDLE_JSON, ".")), None)
