"""How Home Assistant finds the figures of a camera: MQTT discovery, one retained message for each sensor. Pure.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from yolo_slim.files import JsonObject
from yolo_slim.version import __version__

PREFIX = "homeassistant"
ONLINE, OFFLINE = "online", "offline"
EVENT_TYPES = ("crossed", "entered", "left")


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Where a camera publishes."""

    base: str

    @property
    def state(self) -> str:
        """Figures and counts, once per second."""
        return f"{self.base}/state"

    @property
    def events(self) -> str:
        """Crossings and visits, as they happen."""
        return f"{self.base}/events"

    @property
    def availability(self) -> str:
        """:data:`ONLINE` or :data:`OFFLINE`, retained; the broker says offline when the camera is gone."""
        return f"{self.base}/availability"

    @property
    def node(self) -> str:
        """The camera's name in Home Assistant's topics."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.base)


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One value of the state."""

    key: str
    """Unique in this camera."""
    name: str
    path: tuple[str, ...]
    """Where the value is in the state."""
    unit: str | None = None
    device_class: str | None = None
    state_class: str | None = "measurement"


FIGURES = (
    Sensor(key="state", name="State", path=("state",), state_class=None),
    Sensor(key="fps", name="Frame rate", path=("fps",), unit="FPS"),
    Sensor(key="latency_p50", name="Latency", path=("latency_ms", "p50"), unit="ms", device_class="duration"),
    Sensor(key="latency_p99", name="Latency p99", path=("latency_ms", "p99"), unit="ms", device_class="duration"),
    Sensor(key="infer_p50", name="Inference", path=("infer_ms", "p50"), unit="ms", device_class="duration"),
    Sensor(key="celsius", name="Temperature", path=("celsius",), unit="°C", device_class="temperature"),
    Sensor(key="age", name="Age of the newest frame", path=("age_s",), unit="s", device_class="duration"),
    Sensor(key="dropped", name="Dropped frames", path=("dropped",), state_class="total_increasing"),
)
_STATS = ("fps", "source_fps", "dropped", "age_s", "state", "reason", "celsius", "throttled")
_PERCENTILES = {"latency_ms": ("p50", "p99"), "infer_ms": ("p50",)}


def state_of(stats: Mapping[str, object], objects: Mapping[str, int], counts: JsonObject) -> JsonObject:
    """What is published once per second. What isn't known is null, which Home Assistant shows as unknown."""
    return {
        **{key: stats.get(key) for key in _STATS},
        **{key: _known(stats.get(key), percentiles) for key, percentiles in _PERCENTILES.items()},
        "objects": dict(objects),
        "lines": counts.get("lines", {}),
        "zones": counts.get("zones", {}),
    }


def sensors_of(state: JsonObject) -> Iterator[Sensor]:
    """The sensors of a state: its figures, each class that was seen, each line and zone."""
    yield from FIGURES
    for name in state["objects"]:
        yield Sensor(key=f"objects_{_slug(name)}", name=f"Objects: {name}", path=("objects", name))
    for name in state["lines"]:
        for way in ("in", "out"):
            yield Sensor(
                key=f"line_{_slug(name)}_{way}",
                name=f"{name}: {way}",
                path=("lines", name, way),
                state_class="total_increasing",
            )
    for name in state["zones"]:
        yield Sensor(key=f"zone_{_slug(name)}_inside", name=f"{name}: inside", path=("zones", name, "inside"))
        entered = ("zones", name, "entered")
        yield Sensor(
            key=f"zone_{_slug(name)}_entered", name=f"{name}: entered", path=entered, state_class="total_increasing"
        )


def config_topic(topics: Topics, key: str, kind: str = "sensor") -> str:
    """Where a sensor is announced; an empty message there removes it."""
    return f"{PREFIX}/{kind}/{topics.node}/{key}/config"


def config_of(sensor: Sensor, topics: Topics, device: str) -> JsonObject:
    """The announcement of a sensor."""
    optional = {
        "unit_of_measurement": sensor.unit,
        "device_class": sensor.device_class,
        "state_class": sensor.state_class,
    }
    return {
        **_common(sensor.key, sensor.name, topics, device),
        "state_topic": topics.state,
        "value_template": _template(sensor.path),
        **{key: value for key, value in optional.items() if value is not None},
    }


def event_config(topics: Topics, device: str) -> JsonObject:
    """The announcement of the camera's events."""
    return {
        **_common("events", "Events", topics, device),
        "state_topic": topics.events,
        "event_types": list(EVENT_TYPES),
    }


def _known(values: object, keys: tuple[str, ...]) -> JsonObject:
    """Some keys of a mapping; null where it, or one of them, is missing."""
    return {key: values.get(key) if isinstance(values, Mapping) else None for key in keys}


def _common(key: str, name: str, topics: Topics, device: str) -> JsonObject:
    return {
        "name": name,
        "unique_id": f"{topics.node}_{key}",
        "availability_topic": topics.availability,
        "device": {
            "identifiers": [topics.node],
            "name": topics.base,
            "manufacturer": "yolo_slim",
            "model": device,
            "sw_version": __version__,
        },
    }


def _template(path: tuple[str, ...]) -> str:
    """A Jinja expression. A JSON string is a Jinja string too, so a name may contain quotes."""
    keys = "".join(f"[{json.dumps(key, ensure_ascii=False)}]" for key in path)
    return "{{ value_json" + keys + (" | default(0) }}" if path[0] == "objects" else " }}")


def _slug(name: str) -> str:
    """A name as a part of a topic; names that differ stay different."""
    return "".join(char if char.isascii() and char.isalnum() else f"_{ord(char):x}_" for char in name)
