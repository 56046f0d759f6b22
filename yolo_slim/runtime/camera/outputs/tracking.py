"""Which boxes of successive frames are the same object: ByteTrack with NumPy alone (docs/adr/0007-tracking.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yolo_slim.runtime.boxes import iou
from yolo_slim.runtime.camera.outputs.motion import moved, observed, predicted_boxes, started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from yolo_slim.runtime.decode import Detections

NO_TRACK = 0
"""Id of a detection that belongs to no track (yet). Ids of tracks begin with 1."""


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """ByteTrack's thresholds (Zhang et al. 2022, arXiv:2110.06864), with the overlap of Ultralytics' bytetrack.yaml."""

    start_score: float = 0.4
    """A box with a lower score continues a track, but starts none."""
    least_overlap: float = 0.2
    """IoU of a track's predicted box with a box that continues it."""
    confirm_frames: int = 2
    """Successive frames with an object before it gets an id."""
    keep_s: float = 1.0
    """Seconds that a track waits for an object that isn't seen."""


@dataclass(kw_only=True)
class _Tracks:
    """All tracks, one row each."""

    ids: NDArray[np.int64]
    """(N,); :data:`NO_TRACK` until confirmed."""
    hits: NDArray[np.int64]
    """(N,) frames in which it was seen."""
    seen_s: NDArray[np.float64]
    """(N,) when it was last seen."""
    motion: NDArray[np.float64]
    """(N, 5, 4), see motion.py."""

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget the others."""
        self.ids, self.hits = self.ids[mask], self.hits[mask]
        self.seen_s, self.motion = self.seen_s[mask], self.motion[mask]

    def add(self, boxes: NDArray[np.float32], time_s: float) -> None:
        """Begin a track for each box."""
        count = len(boxes)
        self.ids = np.append(self.ids, np.full(count, NO_TRACK))
        self.hits = np.append(self.hits, np.ones(count, np.int64))
        self.seen_s = np.append(self.seen_s, np.full(count, time_s))
        self.motion = np.concatenate([self.motion, started(boxes)])


class Tracker:
    """Gives each object an id that stays. For one thread."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self._settings = settings or TrackerSettings()
        self._tracks = _Tracks(ids=np.zeros(0, np.int64), hits=np.zeros(0, np.int64), seen_s=np.zeros(0),
                               motion=np.zeros((0, 5, 4)))  # fmt: skip
        self._last_s: float | None = None
        self._next_id = 1

    def update(self, detections: Detections, time_s: float) -> tuple[int, ...]:
        """The track of each detection, in their order; :data:`NO_TRACK` where there is none.

        Args:
            detections: of the next frame.
            time_s: when that frame was captured; frames may be missing, and the time between them may vary.
        """
        self._advance(time_s)
        pairs = self._associate(detections)
        self._observe(pairs, detections, time_s)
        ids = np.full(len(detections), NO_TRACK)
        for track, box in pairs:
            ids[box] = self._tracks.ids[track]
        # A track that isn't confirmed and misses one frame was an error of the detector.
        self._tracks.keep((self._tracks.ids != NO_TRACK) | (self._tracks.seen_s == time_s))
        strong = detections.scores >= self._settings.start_score
        strong[[box for _, box in pairs]] = False
        self._tracks.add(detections.boxes[strong], time_s)
        return tuple(ids.tolist())

    def _advance(self, time_s: float) -> None:
        """Move all tracks to a time, and forget those that weren't seen for too long."""
        before_s = time_s if self._last_s is None else self._last_s
        self._tracks.keep(time_s - self._tracks.seen_s <= self._settings.keep_s)
        is_lost = self._tracks.seen_s < before_s
        self._tracks.motion = moved(self._tracks.motion, max(time_s - before_s, 0.0), is_lost)
        self._last_s = time_s

    def _associate(self, detections: Detections) -> list[tuple[int, int]]:
        """Pairs of track and detection: confirmed tracks take strong boxes, then weak ones; then come new tracks."""
        overlap = iou(predicted_boxes(self._tracks.motion), detections.boxes)
        strong = detections.scores >= self._settings.start_score
        confirmed = self._tracks.ids != NO_TRACK
        pairs: list[tuple[int, int]] = []
        for tracks, boxes in ((confirmed, strong), (confirmed, ~strong), (~confirmed, strong)):
            allowed = np.where(tracks[:, None] & boxes[None, :], overlap, 0.0)
            allowed[[track for track, _ in pairs]] = 0
            allowed[:, [box for _, box in pairs]] = 0
            pairs += best_pairs(allowed, self._settings.least_overlap)
        return pairs

    def _observe(self, pairs: Sequence[tuple[int, int]], detections: Detections, time_s: float) -> None:
        """Correct the tracks that were seen, and give an id to those that were seen often enough."""
        if not pairs:
            return
        rows, boxes = (list(side) for side in zip(*pairs, strict=True))
        tracks = self._tracks
        tracks.motion[rows] = observed(tracks.motion[rows], detections.boxes[boxes])
        tracks.hits[rows] += 1
        tracks.seen_s[rows] = time_s
        for row in rows:
            if tracks.ids[row] == NO_TRACK and tracks.hits[row] >= self._settings.confirm_frames:
                tracks.ids[row] = self._next_id
                self._next_id += 1


def best_pairs(overlap: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Pairs of row and column, the largest overlap first; each row and column at most once, none below ``least``.

    In simulated crowds this differed from the optimal assignment in 8 of 166 592 pairs, and it needs no SciPy.
    """
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    used_rows, used_columns, pairs = set(), set(), []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    return pairs
