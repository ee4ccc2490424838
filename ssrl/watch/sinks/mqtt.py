"""MQTT, with what Home Assistant needs to find its sensors by itself.

mqtt[s]://user:password@host[:port][/PREFIX]        PREFIX is "ssrl" otherwise

    PREFIX/CAMERA/availability   online, offline (last will)     retained
    PREFIX/CAMERA/anomaly        ON, OFF                         retained
    PREFIX/CAMERA/score          0.123                           the latest alone
    PREFIX/CAMERA/events         JSON                            an event opened or closed, or the connection
    homeassistant/.../config     discovery                       retained
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit

from ssrl.errors import UserError
from ssrl.watch.notices import Kind, Notice
from ssrl.watch.sinks.base import Camera, SinkAway, load_optional

logger = logging.getLogger(__name__)
DISCOVERY = "homeassistant"
ACKNOWLEDGE_SECONDS = 10.0
LONGEST_PAUSE = 30


class MqttSink:
    """See `Sink`. The client keeps what the broker has not acknowledged (QoS 1), and connects again by itself."""

    kinds: frozenset[Kind] = frozenset({"opened", "closed", "connection", "score"})

    def __init__(self, address: str, camera: Camera) -> None:
        mqtt = load_optional("paho.mqtt.client", "paho-mqtt", "mqtt://")
        parts = urlsplit(address)
        if not parts.hostname:
            raise UserError("an MQTT address names a host: mqtt://user:password@host:1883/prefix")
        self._camera = camera
        self._id = re.sub(r"\W+", "_", camera.name).strip("_").lower() or "camera"
        self._root = f"{parts.path.strip('/') or 'ssrl'}/{self._id}"
        self._state = "OFF"
        self._sent: tuple[str, int] | None = None  # the last notice that the client took, and its message's number
        self._acknowledged: deque[int] = deque(maxlen=100)  # numbers of messages
        self._news = threading.Condition()
        self._refused = ""
        self._connected = threading.Event()
        client_id = f"ssrl-{self._root.replace('/', '-')}"
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.will_set(self._topic("availability"), "offline", qos=1, retain=True)
        self._client.on_connect, self._client.on_disconnect = self._on_connect, self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.reconnect_delay_set(1, LONGEST_PAUSE)
        self._client.connect_async(parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883), 30)
        self._client.loop_start()

    def deliver(self, notice: Notice) -> None:
        if not self._connected.wait(ACKNOWLEDGE_SECONDS):
            raise SinkAway(self._refused or "the broker cannot be reached")
        if notice.kind == "score":
            self._client.publish(self._topic("score"), f"{notice.body['score']:.4f}", qos=0)
            return
        if self._sent is None or self._sent[0] != notice.key:  # the client sends again by itself what it has taken
            if notice.kind in ("opened", "closed"):
                self._state = "ON" if notice.kind == "opened" else "OFF"
                self._publish("anomaly", self._state)
            self._sent = notice.key, self._client.publish(self._topic("events"), notice.text, qos=1).mid
        self._await(self._sent[1])

    def close(self) -> None:
        if self._connected.is_set():
            self._publish("anomaly", "OFF")
            last = self._publish("availability", "offline")
            try:
                self._await(last)
            except SinkAway:
                logger.warning("the MQTT broker did not take the last message, that we are offline")
        self._client.disconnect()
        self._client.loop_stop()

    def _await(self, number: int) -> None:
        with self._news:
            if not self._news.wait_for(lambda: number in self._acknowledged, ACKNOWLEDGE_SECONDS):
                raise SinkAway("the broker does not acknowledge")

    def _publish(self, name: str, payload: str) -> int:
        number: int = self._client.publish(self._topic(name), payload, qos=1, retain=True).mid
        return number

    def _topic(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused = f"the broker refuses the connection: {reason}"
            client.reconnect_delay_set(LONGEST_PAUSE, LONGEST_PAUSE)
            return
        client.reconnect_delay_set(1, LONGEST_PAUSE)
        for topic, config in self._describe_sensors().items():
            client.publish(topic, json.dumps(config), qos=1, retain=True)
        self._publish("availability", "online")
        self._publish("anomaly", self._state)  # a broker may have lost what it retained
        self._connected.set()

    def _on_publish(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        with self._news:
            self._acknowledged.append(number)
            self._news.notify_all()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connected.clear()

    def _describe_sensors(self) -> dict[str, dict[str, Any]]:
        """Topic → configuration, for Home Assistant's discovery."""
        common = {
            "availability_topic": self._topic("availability"),
            "device": {"identifiers": [f"ssrl_{self._id}"], "name": self._camera.name, "manufacturer": "ssrl"},
            "origin": {"name": "ssrl-watch"},
        }
        anomaly = {
            "name": "Anomaly",
            "unique_id": f"ssrl_{self._id}_anomaly",
            "state_topic": self._topic("anomaly"),
            "device_class": "problem",
            "json_attributes_topic": self._topic("events"),
        }
        score = {
            "name": "Anomaly score",
            "unique_id": f"ssrl_{self._id}_score",
            "state_topic": self._topic("score"),
            "state_class": "measurement",
            "icon": "mdi:chart-line",
        }
        return {
            f"{DISCOVERY}/binary_sensor/ssrl_{self._id}/anomaly/config": {**anomaly, **common},
            f"{DISCOVERY}/sensor/ssrl_{self._id}/score/config": {**score, **common},
        }
