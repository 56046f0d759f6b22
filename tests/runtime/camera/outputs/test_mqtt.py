"""Figures, counts and events at a real MQTT client and a small broker on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.constants import ROOT
from tests.helpers.mqtt_broker import Broker
from tests.helpers.shown_frames import CONTEXT, detections, shown
from tests.helpers.waiting import wait_until
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs import mqtt, worker
from yolo_slim.runtime.camera.outputs.broker_address import parse_address
from yolo_slim.runtime.camera.outputs.discovery import Topics, config_of, sensors_of, state_of
from yolo_slim.runtime.camera.outputs.mqtt import Figures, Mqtt
from yolo_slim.runtime.camera.outputs.zones import Event

STATS = {"fps": 29.8, "latency_ms": {"p50": 41.0, "p99": 60.0}, "state": "live", "celsius": 55.0, "rss_mb": 100.0}
COUNTS = {"lines": {"front door": {"in": 2, "out": 1}}, "zones": {}}
TWO = detections([(1, 2, 3, 4), (5, 6, 7, 8)])
CROSSED = Event(kind="crossed", name="front door", class_id=0, track=4, time_s=0.0, direction="in")


@contextmanager
def connected(broker: Broker, said: list[str], counts: Any = None) -> Iterator[Mqtt]:
    """A camera that publishes twenty times per second."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt isn't installed")
    figures = Figures(stats=lambda: STATS, counts=lambda: COUNTS if counts is None else counts, every_s=0.05)
    camera = Mqtt(parse_address(f"mqtt://cam:secret@127.0.0.1:{broker.port}/home/door"), CONTEXT, figures, said.append)
    try:
        yield camera
    finally:
        camera.close()


def test_home_assistant_finds_a_camera() -> None:
    """It is announced, then online, and says its figures and counts; at the end it is offline."""
    with Broker(password="secret") as broker:
        with connected(broker, []) as camera:
            camera.shown(shown(TWO, 0.0))
            state = broker.wait_for("home/door/state", lambda text: "person" in text)
            camera.shown(shown(detections([]), 0.0))
            broker.wait_for("home/door/state", lambda text: json.loads(text)["objects"] == {"person": 0})
            camera.event(CROSSED)
            event = broker.wait_for("home/door/events")
        assert broker.wait_for("home/door/availability").payload == "online"
        assert broker.wait_for("home/door/availability", lambda text: text == "offline").is_retained
        fps = broker.wait_for("homeassistant/sensor/home_door/fps/config")
        names = [one.topic.split("/")[-2] for one in broker.messages if one.topic.endswith("/config")]
    published = json.loads(state.payload)
    expected = {**STATS, "objects": {"person": 2}, **COUNTS, "age_s": None, "infer_ms": {"p50": None}}
    assert {key: published.get(key, 100.0) for key in expected} == expected
    assert "rss_mb" not in published
    value = json.loads(event.payload)
    assert (value["event_type"], value["class"], value["direction"]) == ("crossed", "person", "in")
    assert not event.is_retained
    assert fps.is_retained
    assert json.loads(fps.payload)["availability_topic"] == "home/door/availability"
    assert {"events", "celsius", "objects_person", "line_front_20_door_in", "line_front_20_door_out"} <= set(names)
    assert len(names) == len(set(names))


def test_every_sensor_reads_a_value_that_is_published() -> None:
    """Its template, read as Home Assistant reads it, finds something; names may contain quotes."""
    jinja2 = pytest.importorskip("jinja2")
    zones = {'a "b"': {"inside": 1, "entered": 3, "longest_s": 1.0}}
    stats = {**STATS, "infer_ms": {"p50": 20.0}, "age_s": 0.1, "dropped": 2}
    state = json.loads(json.dumps(state_of(stats, {"it's": 2, "größe": 1}, {**COUNTS, "zones": zones})))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    found = {}
    for sensor in sensors_of(state):
        config = config_of(sensor, Topics(base="x"), "a Pi")
        found[sensor.name] = environment.from_string(config["value_template"]).render(value_json=state)
    assert found["Frame rate"] == "29.8"
    assert found["Latency p99"] == "60.0"
    assert (found["Objects: it's"], found["Objects: größe"]) == ("2", "1")
    assert (found["front door: in"], found['a "b": entered']) == ("2", "3")


def test_what_is_not_known_is_null() -> None:
    """No sensor's template fails, before the first frame and on a device without a thermometer."""
    jinja2 = pytest.importorskip("jinja2")
    state = json.loads(json.dumps(state_of({"latency_ms": None}, {}, {})))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    templates = [config_of(sensor, Topics(base="x"), "a Pi")["value_template"] for sensor in sensors_of(state)]
    assert {environment.from_string(one).render(value_json=state) for one in templates} == {"None"}


def test_keys_of_sensors_are_unique() -> None:
    """Names that differ only in signs stay apart; topics contain no signs."""
    state = state_of({}, {"a b": 1, "a_b": 1, "a-b": 1, "a/b": 1, "ä": 1}, {})
    keys = [sensor.key for sensor in sensors_of(state)]
    assert len(keys) == len(set(keys))
    assert all(key.isascii() and "/" not in key and "+" not in key for key in keys)


def test_a_line_that_is_gone_is_removed() -> None:
    """Its sensors vanish from Home Assistant."""
    counts = dict(COUNTS)
    with Broker() as broker, connected(broker, [], counts):
        topic = "homeassistant/sensor/home_door/line_front_20_door_in/config"
        broker.wait_for(topic)
        counts["lines"] = {}
        assert broker.wait_for(topic, lambda text: text == "").is_retained


def test_a_broker_that_is_lost_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames go on; it is said once; events wait; everything is announced again."""
    monkeypatch.setattr(worker, "CALM_S", 0.0)
    said: list[str] = []
    with Broker() as first:
        port = first.port
        camera = connected(first, said)
        found = camera.__enter__()
        first.wait_for("home/door/state")
    wait_until(lambda: said)
    for _ in range(500):
        found.shown(shown(TWO, 0.0))
    before = found.faults.lost
    for index in range(150):
        found.event(replace(CROSSED, track=index))
    assert found.faults.lost >= before + 50
    with Broker(port=port) as second:
        assert second.wait_for("home/door/availability").payload == "online"
        second.wait_for("homeassistant/sensor/home_door/fps/config")
        second.wait_for("home/door/events", lambda text: json.loads(text)["track"] == 99)
        events = [json.loads(one.payload) for one in second.messages if one.topic == "home/door/events"]
        assert [one["track"] for one in events] == list(range(100))
        wait_until(lambda: len(said) == 2)
        camera.__exit__(None, None, None)
    assert said[0].startswith(f"MQTT broker 127.0.0.1:{port}: The connection is lost")
    assert said[1].startswith(f"MQTT broker 127.0.0.1:{port}: works again; ")
    assert found.faults.lost > 0


DIES = """
import sys, time
from tests.helpers.shown_frames import CONTEXT
from yolo_slim.runtime.camera.outputs.broker_address import parse_address
from yolo_slim.runtime.camera.outputs.mqtt import Figures, Mqtt
Mqtt(parse_address(sys.argv[1]), CONTEXT, Figures(stats=dict, counts=dict, every_s=0.05), print)
time.sleep(60)
"""


def test_a_camera_that_dies_is_offline() -> None:
    """The broker says so in its place: the last will."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt isn't installed")
    with Broker() as broker:
        command = [sys.executable, "-c", DIES, f"mqtt://127.0.0.1:{broker.port}/home/door"]
        process = subprocess.Popen(command, cwd=ROOT)
        broker.wait_for("home/door/state", timeout_s=30)
        process.kill()
        process.wait()
        assert broker.wait_for("home/door/availability", lambda text: text == "offline").is_retained


def refusal(broker_port: int, monkeypatch: pytest.MonkeyPatch) -> SlimError:
    """What is said at the start, after at most half a second of waiting."""
    monkeypatch.setattr(mqtt, "CONNECT_S", 0.5)
    with pytest.raises(SlimError) as caught, connected(Broker(port=broker_port), []):
        pass
    assert "secret" not in str(caught.value)
    return caught.value


def test_brokers_that_do_not_answer_are_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there; a wrong password; one that accepts and says nothing."""
    with Broker() as gone:
        pass
    assert f"127.0.0.1:{gone.port} can't be reached" in str(refusal(gone.port, monkeypatch))
    with Broker(password="other") as strict:
        assert "Bad user name or password" in str(refusal(strict.port, monkeypatch))
    with Broker(is_silent=True) as silent:
        assert "doesn't answer within 0.5 s" in str(refusal(silent.port, monkeypatch))


@pytest.mark.parametrize(("version", "said"), [("missing", "isn't installed"), ("old", "too old")])
def test_without_paho_the_message_says_what_to_install(
    version: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, or of Debian's version 1.6."""
    old = type(sys)("paho.mqtt.client")
    package, module = type(sys)("paho"), type(sys)("paho.mqtt")
    module.client = old  # type: ignore[attr-defined]
    names: dict[str, Any] = {"paho": package, "paho.mqtt": module, "paho.mqtt.client": old}
    for name, value in names.items():
        monkeypatch.setitem(sys.modules, name, None if version == "missing" else value)
    with pytest.raises(SlimError, match=said) as caught:
        Mqtt(parse_address("mqtt://127.0.0.1"), CONTEXT, Figures(stats=dict, counts=dict), print)
    assert "paho-mqtt>=2" in caught.value.remedy


def test_addresses() -> None:
    """Ports and topics have defaults; signs in passwords may be escaped."""
    plain = parse_address("mqtt://broker.local")
    assert (plain.host, plain.port, plain.is_encrypted, plain.user) == ("broker.local", 1883, False, None)
    assert plain.base.startswith("yolo_slim/")
    full = parse_address("mqtts://me:p%40ss%2F@10.0.0.1:99/a/b/")
    assert (full.port, full.is_encrypted, full.user, full.password, full.base) == (99, True, "me", "p@ss/", "a/b")
    assert parse_address("mqtts://x").port == 8883
    assert "p@ss" not in repr(full) + full.name


@pytest.mark.parametrize(
    "text",
    ["broker", "http://x", "mqtt://", "mqtt://u:secret@x:99999", "mqtt://u:secret@x/a/+/b", "mqtt://u:secret@x/a#b",
     "mqtt://u:secret@[::1", "mqtt://x/" + "a" * 300],
)  # fmt: skip
def test_a_wrong_address_is_refused_without_its_password(text: str) -> None:
    """The message shows what a right one looks like."""
    with pytest.raises(SlimError, match="can't be used") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)
    assert "mqtts://" in caught.value.remedy
