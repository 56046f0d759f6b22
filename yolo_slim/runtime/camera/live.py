"""The running camera: capture, detection and everything that keeps them alive.

A capture thread leaves the newest frame in a slot of one, an inference thread takes it, detects, and leaves the newest
shown frame in another one. Nothing queues up, so nothing can lag. Other threads watch and tell; none waits in the path
of a frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.runtime.camera.capture import Capture, CaptureSettings
from yolo_slim.runtime.camera.frame import Answer, Frame, Shown, Slot, Source
from yolo_slim.runtime.camera.hang import MAX_STALL_S, FrameWatch, ModelHung
from yolo_slim.runtime.camera.journal import Journal, describe
from yolo_slim.runtime.camera.reload import BundleWatch, Reloading
from yolo_slim.runtime.camera.sensors import Sensors
from yolo_slim.runtime.camera.stats import LastMinute, LiveStats
from yolo_slim.runtime.camera.status import STALE_AFTER_S, Freshness, SourceStatus, Status, freshness, status_of
from yolo_slim.runtime.detector import Detections, Detector, StageTimes

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICK_S = 0.1
"""How often the state is looked at."""
STOP_S = 10.0
"""Longest wait for the frame in progress when the camera is stopped."""


class DetectorLike(Protocol):
    """What finds objects: a :class:`~yolo_slim.runtime.detector.Detector`."""

    def timed(self, image: NDArray[np.uint8], conf: float | None = None) -> tuple[Detections, StageTimes]:
        """Find the objects of one image, and time it."""


Track = Callable[[Detections, float], tuple[int, ...]]
"""Gives each of the first bundle's detections its track: detections and the frame's time to ids, in their order."""


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """How the camera runs. :meth:`Live.change` replaces the first three while it does."""

    conf: float | None = None
    """Score threshold; None: the bundle's."""
    classes: frozenset[int] | None = None
    """Classes that are shown; None: all."""
    paused: bool = False
    """Whether detection waits. The source stays open."""
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    stale_after_s: float = STALE_AFTER_S
    bundles_every_s: float = 1.0
    """How often the files of the bundles are looked at."""
    max_failed: int = 20
    """So many frames in a row that a bundle fails on end the camera."""
    max_stall_s: float = MAX_STALL_S
    """A frame that takes longer ends the camera: the model hangs."""


CHANGEABLE = ("conf", "classes", "paused")


class Live:
    """A camera that runs until it is stopped, its source ends, or its problem is one that waiting doesn't solve."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        detectors: Mapping[str, DetectorLike],
        settings: LiveSettings | None = None,
        *,
        track: Track | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = _checked(settings or LiveSettings())
        self.shown: Slot[Shown] = Slot()
        self.journal = Journal(clock)
        self._clock, self._track = clock, track
        # A detector of ours follows its bundle on disk; anything else stays as it is.
        self._detectors = {
            name: Reloading(one, self.journal) if isinstance(one, Detector) else one for name, one in detectors.items()
        }
        self._minute = LastMinute()
        self._capture = Capture(open_source, self.settings.capture, self.journal, self._minute, clock)
        self._capture.on_change = self._note_status
        self._sensors = Sensors()
        self._reloading = [one for one in self._detectors.values() if isinstance(one, Reloading)]
        self._bundles = BundleWatch(self._reloading, self.settings.bundles_every_s)
        self._on_shown: list[Callable[[Shown], object]] = []
        self._newest: Shown | None = None
        self._status = Status(state="connecting")
        self._started_s = self._resumed_s = clock()
        self._ended_s: float | None = None
        self._error: SlimError | None = None
        self._frame_watch = FrameWatch(clock)
        self._failed_in_a_row = 0
        self._before: int | None = None
        self._settings_lock, self._status_lock = threading.Lock(), threading.Lock()
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("camera-inference", self._infer), ("camera-watch", self._watch))
        ]

    def __enter__(self) -> Live:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def on_shown(self, callback: Callable[[Shown], object]) -> None:
        """Call back with every shown frame, in the inference thread: be quick. To be asked for before the start."""
        self._on_shown.append(callback)

    def on_status(self, callback: Callable[[Status], object]) -> None:
        """Call back at each change of state, in a thread that no frame waits for."""
        self.journal.on_status(callback)

    def on_message(self, callback: Callable[[str], object]) -> None:
        """Call back with each message for people, in the same thread."""
        self.journal.on_message(callback)

    def start(self) -> None:
        """Open the source and begin."""
        self._started_s = self._clock()
        self.journal.status(self._status)
        self._sensors.start()
        self._bundles.start()
        self._capture.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads and close the source; a second call does nothing more. The given detectors stay open.

        After a :class:`ModelHung` the inference thread and its models are left as they are.
        """
        self._stopped.set()
        self._capture.stop()
        self._sensors.stop()
        self._bundles.stop()
        if isinstance(self._error, ModelHung):
            return
        # A listener that stops the camera runs in one of its threads, which can't wait for itself.
        for thread in self._threads if threading.current_thread() not in self._threads else ():
            if thread.is_alive():
                thread.join(STOP_S)
        for one in self._reloading if self._ended.is_set() else ():
            one.close_own()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; false: it still runs.

        Raises:
            SlimError: it ended by a problem.
        """
        is_ended = self._ended.wait(timeout_s)
        if is_ended and self._error is not None:
            raise self._error
        return is_ended

    def change(self, **changes: Any) -> LiveSettings:
        """Change ``conf``, ``classes`` or ``paused`` from the next frame on; what isn't given stays.

        Raises:
            SlimError: an unknown name or an impossible value; nothing is changed then.
        """
        unknown = [name for name in changes if name not in CHANGEABLE]
        if unknown:
            fact = f"'{unknown[0]}' can't be changed while the camera runs.{did_you_mean(unknown[0], CHANGEABLE)}"
            raise SlimError(fact, remedy=f"Change one of: {', '.join(CHANGEABLE)}.")
        if changes.get("classes") is not None:
            changes["classes"] = _class_set(changes["classes"])
        with self._settings_lock:
            was_paused, self.settings = self.settings.paused, _checked(replace(self.settings, **changes))
            if was_paused and not self.settings.paused:
                self._resumed_s = self._clock()
        self._note_status()
        return self.settings

    def names(self, bundle: str | None = None) -> dict[int, str]:
        """Class names of a bundle, of the first one where none is given; they change when it is replaced."""
        one = next(iter(self._detectors.values())) if bundle is None else self._detectors[bundle]
        return dict(one.detector.bundle.spec.names) if isinstance(one, Reloading) else {}

    @property
    def age_s(self) -> float | None:
        """Seconds since the newest shown frame was captured; None: there is none."""
        newest = self._newest
        return None if newest is None else max(self._clock() - newest.frame.captured_s, 0.0)

    @property
    def freshness(self) -> Freshness:
        """How the newest frame may be shown now: live, stale or grey."""
        return freshness(self.age_s, self._minute.interval_s, self.settings.stale_after_s)

    def stats(self) -> LiveStats:
        """The figures of the last minute and the counts since the start."""
        # Figures of a camera that ended don't fade.
        now_s = self._clock() if self._ended_s is None else self._ended_s
        reading, status = self._sensors.reading, self._status_now()
        return LiveStats(
            state=status.state,
            reason=status.reason,
            next_try_s=status.next_try_s,
            age_s=self.age_s,
            freshness=self.freshness,
            uptime_s=now_s - self._started_s,
            source=self._capture.source_name,
            figures=self._minute.figures(now_s),
            totals=self.journal.totals(),
            last_error=self.journal.last_error,
            **{one.name: getattr(reading, one.name) for one in fields(reading)},
        )

    def _infer(self) -> None:
        """The inference thread: every newest frame, until nothing comes any more."""
        error: SlimError | None = None
        self._warm_up()
        try:
            while not (self._stopped.is_set() or self._ended.is_set() or self._capture.is_finished):
                if self.settings.paused:
                    self._before = None
                    self._stopped.wait(TICK_S)
                elif (frame := self._capture.take(TICK_S)) is not None:
                    with self._frame_watch.working():
                        self._show(frame)
            error = self._capture.error
        except SlimError as problem:
            error = problem
        except Exception as fault:  # a fault of ours: said as one message, like every end
            error = SlimError(f"The camera failed: {describe(fault)}.", remedy="Please report this.")
        self._end(error)

    def _warm_up(self) -> None:
        """Run every model once while the source opens: otherwise the first frame would be the p99 of a minute."""
        for one in self._reloading:
            # A model that fails fails on the first frame too, which is told and counted.
            with suppress(Exception), self._frame_watch.working():
                one.warm_up()

    def _show(self, frame: Frame) -> None:
        taken_s = self._clock()
        dropped = 0 if self._before is None else frame.index - self._before - 1
        self._before = frame.index
        self.journal.count("dropped", dropped)
        answers = self._answers(frame)
        if answers is None:
            return
        shown = Shown(
            frame=frame,
            answers=answers,
            sequence=self._newest.sequence + 1 if self._newest else 0,
            ready_s=self._clock(),
            track_ids=self._tracks(answers, frame),
        )
        self._newest = shown
        self.shown.put(shown)
        for callback in self._on_shown:
            self._call(callback, shown)
        self._minute.shown(shown, taken_s=taken_s, at_s=self._clock(), dropped=dropped)
        self.journal.count("shown")

    def _answers(self, frame: Frame) -> dict[str, Answer] | None:
        """What every bundle finds in a frame; None where one failed.

        Raises:
            SlimError: too many frames in a row failed.
        """
        settings = self.settings  # read once: all bundles see a frame with the same settings
        try:
            answers = {name: _answer(one, frame, settings) for name, one in self._detectors.items()}
        except Exception as error:  # runtimes raise what they like; one frame must not end the camera
            self._failed_in_a_row += 1
            self.journal.error("failed", f"A frame failed: {describe(error)}")
            if self._failed_in_a_row >= settings.max_failed:
                raise _failed_for_good(self._failed_in_a_row, error) from error
            return None
        self._failed_in_a_row = 0
        return answers

    def _tracks(self, answers: Mapping[str, Answer], frame: Frame) -> tuple[int, ...]:
        if self._track is None:
            return ()
        try:
            return self._track(next(iter(answers.values())).detections, frame.captured_s)
        except Exception as error:  # a picture without tracks is better than none
            self.journal.error("callback_errors", f"Tracking failed: {describe(error)}")
            return ()

    def _call(self, callback: Callable[[Shown], object], shown: Shown) -> None:
        try:
            callback(shown)
        except Exception as error:  # an output's fault must not end the camera
            self.journal.error("callback_errors", f"An output failed: {describe(error)}")

    def _watch(self) -> None:
        """The thread that tells news, notices an old picture, and gives up a source or a model that blocks."""
        while not (self._stopped.is_set() or self._ended.is_set()):
            self.journal.tell(TICK_S)
            self._capture.watch()
            hung = self._frame_watch.problem(self.settings.max_stall_s)
            if hung is not None:
                self._end(hung)
            self._note_status()
        self._ended.wait(STOP_S)
        while self.journal.tell(0.0):
            pass

    def _end(self, error: SlimError | None) -> None:
        """Note the end and its problem; the first one counts."""
        with self._status_lock:
            if not self._ended.is_set():
                self._error, self._ended_s = error, self._clock()
                self._ended.set()
                self._tell_status()

    def _note_status(self) -> None:
        """Tell the state where it changed."""
        with self._status_lock:
            self._tell_status()

    def _tell_status(self) -> None:
        status = self._status_now()
        # The seconds to the next try run down all the time; that alone is no news.
        if (status.state, status.reason) != (self._status.state, self._status.reason):
            self._status = status
            self.journal.status(status)

    def _status_now(self) -> Status:
        if self._ended.is_set():
            reason = "The source is at its end." if self._capture.is_finished else "Stopped."
            ended = SourceStatus(phase="ended", reason=describe(self._error) if self._error else reason)
            return status_of(ended, "live", is_paused=False, now_s=0.0)
        source, now_s = self._capture.status, self._clock()
        age = freshness(self._idle_s(source, now_s), self._minute.interval_s, self.settings.stale_after_s)
        return status_of(source, age, is_paused=self.settings.paused, now_s=now_s)

    def _idle_s(self, source: SourceStatus, now_s: float) -> float:
        """Seconds without a new picture."""
        # A source that came back, or a pause that ended, has its time to show one: until then the picture is old.
        newest = self._newest
        since = (self._resumed_s, source.opened_s, newest.frame.captured_s if newest else None)
        return now_s - max(moment_s for moment_s in since if moment_s is not None)


def _answer(detector: DetectorLike, frame: Frame, settings: LiveSettings) -> Answer:
    detections, times = detector.timed(frame.image, settings.conf)
    return Answer(detections=_of_classes(detections, settings.classes), times=times)


def _of_classes(detections: Detections, classes: frozenset[int] | None) -> Detections:
    if classes is None:
        return detections
    kept = np.isin(detections.class_ids, list(classes))
    return Detections(
        boxes=detections.boxes[kept], scores=detections.scores[kept], class_ids=detections.class_ids[kept]
    )


def _checked(settings: LiveSettings) -> LiveSettings:
    """Refuse values that can't be meant; the page's come from anywhere."""
    conf = settings.conf
    is_number = isinstance(conf, int | float) and not isinstance(conf, bool)
    if conf is not None and not (is_number and 0 <= conf <= 1):
        raise SlimError(f"conf must be a number from 0 to 1, got {conf!r}.", remedy="Give for example 0.25.")
    if not isinstance(settings.paused, bool):
        raise SlimError(f"paused must be true or false, got {settings.paused!r}.", remedy="Give true or false.")
    return settings


def _class_set(classes: Any) -> frozenset[int]:
    try:
        found = frozenset(classes)
    except TypeError:
        found = frozenset({None})
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in found):
        raise SlimError(f"classes must be class numbers, got {classes!r}.", remedy="Give for example 0 and 2.")
    return found


def _failed_for_good(count: int, error: Exception) -> SlimError:
    return SlimError(
        f"{count} frames in a row failed. The last one: {describe(error)}",
        remedy="Check the bundle on this machine: python -m yolo_slim.runtime check BUNDLE",
    )
