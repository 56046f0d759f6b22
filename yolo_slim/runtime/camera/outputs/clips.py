"""Short videos of what happened: the last seconds are kept in memory, and written when something was seen."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.outputs.budget import DiskBudget, clip_name, remove_parts
from yolo_slim.runtime.camera.outputs.movie import PROBE, usable_format, write_movie
from yolo_slim.runtime.camera.outputs.record import Context, slim_detections
from yolo_slim.runtime.camera.outputs.refusal import refusals_explained
from yolo_slim.runtime.camera.outputs.ring import Ring, Still, still
from yolo_slim.runtime.camera.outputs.trigger import Trigger, TriggerSettings
from yolo_slim.runtime.camera.outputs.worker import Faults, Say, Worker
from yolo_slim.runtime.camera.outputs.zones import seen_in
from yolo_slim.runtime.draw import draw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REMEDY = "Free some space, or give another folder with --clips."


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What is kept, what starts a clip, and how much may stay on the disk."""

    folder: Path
    trigger: TriggerSettings | None = None
    """None: clips are written on request alone."""
    anchor: str = "bottom"
    """The point of a box that must be in the trigger's zone, see layout.py."""
    seconds: float = 10.0
    """Length of a clip; half of it is before the event."""
    rate: float = 10.0
    """Pictures per second in a clip; more of them would cost the inference its cores."""
    budget_mb: float = 500.0
    free_mb: float = 200.0
    """Megabytes of the disk that stay free."""
    ring_mb: float = 64.0
    """Megabytes of memory for the last seconds."""


class Clips:
    """Keeps the last seconds and writes clips; compressing and writing happen in threads of their own."""

    def __init__(self, settings: ClipSettings, context: Context, say: Say) -> None:
        """Make the folder and find a format.

        Raises:
            SlimError: the folder can't be written, or OpenCV can't write videos.
        """
        with refusals_explained(settings.folder, _REMEDY):
            settings.folder.mkdir(parents=True, exist_ok=True)
            remove_parts(settings.folder)
            _probe(settings.folder / PROBE)
        self._format = usable_format(settings.folder)
        self._settings = settings
        self._context = context
        self._say = say
        self._budget = DiskBudget(folder=settings.folder, budget_mb=settings.budget_mb, free_mb=settings.free_mb)
        self._ring = Ring(seconds=settings.seconds, most_bytes=round(settings.ring_mb * 1e6))
        self._trigger = Trigger(settings.trigger) if settings.trigger else None
        self._next_s = float("-inf")
        self._due_s: float | None = None
        self._writing = threading.Lock()
        self.faults = Faults("Clips", say)
        self._pictures: Worker[Shown] = Worker(self._keep, Faults("Clips (pictures)", say), room=5)
        self._files: Worker[tuple[Still, ...]] = Worker(self._write, self.faults, room=2)

    def shown(self, shown: Shown) -> None:
        """Take a frame."""
        with self.faults.guarded():
            self._take(shown)

    @property
    def pending(self) -> int:
        """Pictures that wait to be compressed."""
        return self._pictures.pending

    def save(self) -> Path:
        """Write the last seconds now, and return the file. Takes about a second: not for the thread of the frames.

        Raises:
            SlimError: there is no picture yet, no room, or the file can't be written.
        """
        return self._write(self._ring.stills())

    def close(self) -> None:
        """Write a clip that waits for its second half."""
        self._pictures.close()
        if self._due_s is not None:
            self._files.put(self._ring.stills())
        self._files.close(timeout_s=30.0)

    def _take(self, shown: Shown) -> None:
        now_s = shown.frame.captured_s
        # First: after a source that was lost, the new picture would push the event out of the ring.
        if self._due_s is not None and now_s >= self._due_s:
            self._due_s = None
            self._files.put(self._ring.stills())
        if self._is_event(shown) and self._due_s is None:
            self._due_s = now_s + self._settings.seconds / 2
        if now_s >= self._next_s:
            step_s = 1 / self._settings.rate
            # From the planned time, so that the rate is kept; from now after a pause.
            self._next_s = now_s + step_s if now_s - self._next_s > step_s else self._next_s + step_s
            self._pictures.put(shown)

    def _is_event(self, shown: Shown) -> bool:
        if self._trigger is None:
            return False
        size = (shown.frame.image.shape[0], shown.frame.image.shape[1])
        objects = seen_in(slim_detections(shown), shown.track_ids, size, self._settings.anchor)
        return self._trigger.update(objects, shown.frame.captured_s)

    def _keep(self, shown: Shown) -> None:
        """Compress a frame with its boxes."""
        image: NDArray[np.uint8] = draw(shown.frame.image, slim_detections(shown), self._context.names)
        self._ring.add(still(image, shown.frame.captured_s))

    def _write(self, stills: tuple[Still, ...]) -> Path:
        if not stills:
            raise SlimError("There is no picture yet.", remedy="Try again when the camera is live.")
        folder = self._settings.folder
        with self._writing, refusals_explained(folder, _REMEDY):
            self._budget.make_room(_estimated_bytes(stills, self._settings.rate))
            path = folder / clip_name(datetime.now(timezone.utc), self._format.suffix)
            write_movie(path, stills, self._format, self._settings.rate)
        self._say(f"Clip: {path}")
        return path


def _probe(path: Path) -> None:
    """Write some kilobytes, because OpenCV doesn't say why it can't write a video."""
    try:
        path.write_bytes(bytes(1 << 16))
    finally:
        path.unlink(missing_ok=True)


def _estimated_bytes(stills: tuple[Still, ...], rate: float) -> int:
    """No less than a clip takes: one JPEG for each of its pictures."""
    pictures = (stills[-1].time_s - stills[0].time_s) * rate + 1
    return round(pictures * max(len(one.jpeg) for one in stills))
