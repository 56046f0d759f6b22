"""Figures, counts and events to an MQTT broker, where Home Assistant finds them by itself (extra ``mqtt``)."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolo_slim import machine
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.outputs import discovery
from yolo_slim.runtime.camera.outputs.record import class_counts, utc
from yolo_slim.runtime.camera.outputs.worker import Faults
from yolo_slim.system_libraries import explain_import

if TYPE_CHECKING:
    from yolo_slim.runtime.camera.frame import Shown
    from yolo_slim.runtime.camera.outputs.broker_address import BrokerAddress
    from yolo_slim.runtime.camera.outputs.record import Context
    from yolo_slim.runtime.camera.outputs.worker import Say
    from yolo_slim.runtime.camera.outputs.zones import Event

INSTALL = "pip install 'paho-mqtt>=2'"
CONNECT_S = 5.0
"""Seconds in which a broker must answer at the start."""
KEEPALIVE_S = 15
"""After one and a half of these the broker says that the camera is gone."""
LONGEST_WAIT_S = 60
"""Between two attempts to connect again; the first comes after one second."""
MOST_EVENTS = 100
"""Events that wait for a broker that is gone."""
_QUEUE_IS_FULL = 15
"""paho's ``MQTT_ERR_QUEUE_SIZE``."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Where the published values come from."""

    stats: Callable[[], Mapping[str, object]]
    """``Live.stats().to_json()``."""
    counts: Callable[[], JsonObject]
    """``Counting.counts``, or what returns an empty object."""
    every_s: float = 1.0
    """Seconds between two states."""


class Mqtt:
    """A connection that comes back by itself. Frames only leave their counts here."""

    def __init__(self, address: BrokerAddress, context: Context, figures: Figures, say: Say) -> None:
        """Connect.

        Raises:
            SlimError: paho-mqtt is missing, or the broker can't be reached or refuses.
        """
        self.faults = Faults(f"MQTT broker {address.name}", say)
        self._address = address
        self._context = context
        self._figures = figures
        self._topics = discovery.Topics(base=address.base)
        self._device = machine.device_model()
        self._objects: dict[str, int] = {}
        self._announced: set[str] = set()
        self._last: Any = None
        self._answer = ""
        self._has_answer, self._is_closing = threading.Event(), threading.Event()
        self._client = _client(address)
        self._connect()
        self._ticker = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._ticker.start()

    def shown(self, shown: Shown) -> None:
        """Take a frame's counts."""
        with self.faults.guarded():
            # A class that is gone is published as 0.
            self._objects = {**dict.fromkeys(self._objects, 0), **class_counts(shown, self._context)}

    def event(self, event: Event) -> None:
        """Publish an event; while the broker is gone, the first :data:`MOST_EVENTS` wait for it."""
        with self.faults.guarded():
            value = {
                "event_type": event.kind,
                "time": utc(event.time_s),
                "class": self._context.name_of(event.class_id),
                **event.to_json(),
            }
            if self._publish(self._topics.events, value, qos=1).rc == _QUEUE_IS_FULL:
                self.faults.lose("Too many events wait for it.")

    def close(self) -> None:
        """Say that the camera is offline, and end the connection."""
        self._is_closing.set()
        self._ticker.join(CONNECT_S)
        if self._client.is_connected():
            info = self._client.publish(self._topics.availability, discovery.OFFLINE, qos=0, retain=True)
            with self.faults.guarded():
                info.wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self) -> None:
        """Connect the first time, and wait for the broker's answer."""
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.will_set(self._topics.availability, discovery.OFFLINE, qos=1, retain=True)
        remedy = "Check --mqtt, that the broker runs, and that no firewall is in between."
        own = "Name the authority of a certificate of your own: SSL_CERT_FILE=ca.pem before the command."
        try:
            self._client.connect(self._address.host, self._address.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            remedy = own if isinstance(error, ssl.SSLCertVerificationError) else remedy
            raise SlimError(
                f"The MQTT broker {self._address.name} can't be reached: {error}.", remedy=remedy
            ) from error
        self._client.loop_start()
        is_answered = self._has_answer.wait(CONNECT_S)
        if not is_answered or self._answer:
            self._client.disconnect()
            self._client.loop_stop()
            problem = f"refuses: {self._answer}" if self._answer else f"doesn't answer within {CONNECT_S:g} s"
            raise SlimError(f"The MQTT broker {self._address.name} {problem}.", remedy=remedy)

    def _on_connect(self, client: Any, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        self._answer = str(reason) if reason.is_failure else ""
        self._has_answer.set()
        if self._answer:
            self.faults.lose(f"It refuses: {self._answer}.")
            return
        # Announced again: a broker that starts anew may have forgotten everything.
        self._announced, self._last = set(), None
        # Of quality 0, because a message of quality 1 finds no room behind the events that wait.
        client.publish(self._topics.availability, discovery.ONLINE, qos=0, retain=True)

    def _on_disconnect(self, _client: Any, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        if not self._is_closing.is_set() and self._has_answer.is_set():
            self.faults.lose(f"The connection is lost: {reason}.")

    def _run(self) -> None:
        while not self._is_closing.wait(self._figures.every_s):
            with self.faults.counted():
                self._tick()

    def _tick(self) -> None:
        """Publish the state, and announce what it contains for the first time."""
        if not self._client.is_connected():
            raise SlimError("There is no connection.")
        # paho keeps what the network doesn't take in memory without a limit: nothing more until it is through.
        if self._last is not None and not self._last.is_published():
            raise SlimError("It takes nothing.")
        state = discovery.state_of(self._figures.stats(), self._objects, self._figures.counts())
        self._announce({sensor.key: sensor for sensor in discovery.sensors_of(state)})
        self._last = self._publish(self._topics.state, state, qos=0)

    def _announce(self, sensors: Mapping[str, discovery.Sensor]) -> None:
        announced = self._announced
        if not announced:
            topic = discovery.config_topic(self._topics, "events", "event")
            self._publish(topic, discovery.event_config(self._topics, self._device), qos=0, retain=True)
        for key in sensors.keys() - announced:
            config = discovery.config_of(sensors[key], self._topics, self._device)
            self._publish(discovery.config_topic(self._topics, key), config, qos=0, retain=True)
        for key in announced - sensors.keys():
            self._client.publish(discovery.config_topic(self._topics, key), "", retain=True)
        announced.clear()
        announced.update(sensors)

    def _publish(self, topic: str, value: JsonObject, *, qos: int, retain: bool = False) -> Any:
        return self._client.publish(topic, json.dumps(value, ensure_ascii=False), qos=qos, retain=retain)


def _client(address: BrokerAddress) -> Any:
    """A client that isn't connected yet."""
    try:
        from paho.mqtt import client as paho
    except ImportError as error:
        raise explain_import(error, install=INSTALL) or error from error
    if not hasattr(paho, "CallbackAPIVersion"):
        raise SlimError("paho-mqtt is too old: 2.0 or newer is needed.", remedy=f"Install it: {INSTALL}")
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect_timeout = CONNECT_S
    client.reconnect_delay_set(1, LONGEST_WAIT_S)
    client.max_queued_messages_set(MOST_EVENTS)
    if address.user is not None:
        client.username_pw_set(address.user, address.password)
    if address.is_encrypted:
        client.tls_set()
    return client
