"""The camera's figures for Prometheus, in its text format 0.0.4."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.outputs.record import Context, class_counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "yolo_slim_camera"
STATES = ("connecting", "live", "stale", "lost", "ended", "paused")

Stats = Mapping[str, object]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure with its values, which differ in their labels."""

    name: str
    kind: str
    """``gauge``, ``counter`` or ``summary``."""
    help: str
    values: tuple[tuple[Labels, float], ...]

    def lines(self) -> Iterator[str]:
        """Its part of the text."""
        name = f"{PREFIX}_{self.name}"
        yield f"# HELP {name} {self.help}"
        yield f"# TYPE {name} {self.kind}"
        for labels, value in self.values:
            yield f"{name}{_braced(labels)} {value:.15g}"


class Metrics:
    """Remembers the newest counts, and writes all figures when it is asked."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._frames = 0
        self._objects: dict[str, int] = {}

    def shown(self, shown: Shown) -> None:
        """Take a frame's results."""
        counts = class_counts(shown, self._context)
        with self._lock:
            self._frames += 1
            # A class that is gone stays with 0: a series that ends keeps its last value for minutes.
            self._objects = {**dict.fromkeys(self._objects, 0), **counts}

    def close(self) -> None:
        """Nothing to free."""

    def text(self, stats: Stats, counts: JsonObject, lost: Mapping[str, int]) -> str:
        """The answer to one scrape.

        Args:
            stats: of ``Live.stats().to_json()``; what isn't known is left out.
            counts: of ``Counting.counts()``, or empty.
            lost: by output, what didn't get through.
        """
        with self._lock:
            frames, objects = self._frames, dict(self._objects)
        found = [*_figures(stats, frames), *_totals(objects, counts, lost)]
        return "".join(f"{line}\n" for metric in found if metric.values for line in metric.lines())


def _figures(stats: Stats, frames: int) -> Iterator[Metric]:
    """What the camera measures of itself."""
    yield _gauge("fps", "Frames shown per second, over the last minute.", stats.get("fps"))
    yield _gauge("source_fps", "Frames per second that the source gives.", stats.get("source_fps"))
    yield _summary("latency_seconds", "From the arrival of a frame to its detections.", stats.get("latency_ms"))
    yield _summary("inference_seconds", "Of the model alone.", stats.get("infer_ms"))
    yield _gauge("queue_age_seconds", "Age of a frame when its inference begins.", stats.get("queue_age_ms"), 1e-3)
    yield Metric(name="frames_total", kind="counter", help="Frames shown.", values=(((), frames),))
    yield Metric(
        name="frames_dropped_total",
        kind="counter",
        help="Frames that a newer one replaced before inference.",
        values=_values(stats.get("dropped")),
    )
    yield _gauge("age_seconds", "Age of the newest frame.", stats.get("age_s"))
    yield _gauge("temperature_celsius", "Of the hottest part of the device.", stats.get("celsius"))
    yield _gauge("throttled", "1: the device limits its clocks now.", is_throttled(stats.get("throttled")))
    yield _gauge("memory_bytes", "Resident memory of the camera.", stats.get("rss_mb"), 1e6)
    state = stats.get("state")
    values = tuple(((("state", name),), float(name == state)) for name in STATES)
    yield Metric(name="state", kind="gauge", help="1: the camera is in this state.", values=values if state else ())


def _totals(objects: Mapping[str, int], counts: JsonObject, lost: Mapping[str, int]) -> Iterator[Metric]:
    """What the camera counts."""
    lines, zones = counts.get("lines", {}), counts.get("zones", {})
    crossed = {
        (("line", name), ("direction", way)): number for name, ways in lines.items() for way, number in ways.items()
    }
    inside = {(("zone", name),): zone["inside"] for name, zone in zones.items()}
    entered = {(("zone", name),): zone["entered"] for name, zone in zones.items()}
    seen = {(("class", name),): number for name, number in objects.items()}
    missing = {(("output", name),): number for name, number in lost.items()}
    for name, kind, text, values in (
        ("objects", "gauge", "Objects of a class in the newest frame.", seen),
        ("line_crossings_total", "counter", "Objects that crossed a line.", crossed),
        ("zone_objects", "gauge", "Objects in a zone now.", inside),
        ("zone_entries_total", "counter", "Objects that entered a zone.", entered),
        ("output_lost_total", "counter", "What an output lost, by output.", missing),
    ):
        yield Metric(name=name, kind=kind, help=text, values=tuple(values.items()))


def is_throttled(value: object) -> bool | None:
    """Whether clocks are limited now; None: not known. A Raspberry Pi's number also says what was, above bit 15."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return bool(value & 0xFFFF)
    return bool(value)


def _gauge(name: str, text: str, value: object, factor: float = 1.0) -> Metric:
    return Metric(name=name, kind="gauge", help=text, values=_values(value, factor))


def _values(value: object, factor: float = 1.0) -> tuple[tuple[Labels, float], ...]:
    """One value without labels; none where it isn't known."""
    return (((), float(value) * factor),) if _is_known(value) else ()  # type: ignore[arg-type]


def _summary(name: str, text: str, percentiles: object) -> Metric:
    """Milliseconds by percentile (``p50``, ``p99``) as seconds by quantile."""
    known = percentiles if isinstance(percentiles, Mapping) else {}
    values = tuple(
        ((("quantile", f"{int(key[1:]) / 100:g}"),), value * 1e-3) for key, value in known.items() if _is_known(value)
    )
    return Metric(name=name, kind="summary", help=text, values=values)


def _is_known(value: object) -> bool:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


def _braced(labels: Labels) -> str:
    escaped = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return "{" + ",".join(escaped) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
