"""One suite over all sinks, with receivers that go away and come back; and what is particular to each."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from ssrl.errors import UserError
from ssrl.watch.notices import Kind, Notice
from ssrl.watch.sinks import SINKS, Camera, Delivery, SinkAway, open_sink
from tests.receivers import Broker, HttpReceiver, wait_for

CAMERA = Camera("gate 1", 0.5)
START, END = "2026-01-02T03:04:05.000+00:00", "2026-01-02T03:04:15.000+00:00"


def make_notice(number: int, kind: Kind = "opened") -> Notice:
    """The event `number` opens or closes."""
    body = {
        "type": "event",
        "state": kind,
        "event": f"e{number}",
        "camera": CAMERA.name,
        "start_time": START,
        "start_seconds": 1.0,
        "score": 0.9,
        "region": [0.25, 0.5, 0.75, 1.0],
    }
    if kind == "closed":
        body |= {"end_time": END, "end_seconds": 11.0}
    return Notice(kind, f"e{number}-{kind}", body)


class Receiver(Protocol):
    """The other end of a sink."""

    address: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def received(self) -> list[str]: ...  # keys of notices, in order


class FolderReceiver:
    def __init__(self, folder: Path) -> None:
        self._folder, self._elsewhere = folder / "events", folder / "unmounted"
        self.address = str(self._folder)

    def start(self) -> None:
        if self._elsewhere.exists():
            self._elsewhere.rename(self._folder)

    def stop(self) -> None:
        self._folder.rename(self._elsewhere)

    def received(self) -> list[str]:
        path = self._folder / "events.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [f"{line['event']}-{line['state']}" for line in lines]


class WebReceiver(HttpReceiver):
    def __init__(self, kind: str) -> None:
        super().__init__()
        beginning = {"webhook": "http://", "frigate": "frigate+http://", "apprise": "apprise:json://"}[kind]
        self.address = f"{beginning}127.0.0.1:{self.port}/gate"
        self.kind = kind

    def received(self) -> list[str]:
        return [self._tell_key(request) for request in list(self.requests)]

    def _tell_key(self, request: Any) -> str:
        if self.kind == "apprise":  # a text for people: the score stands for the event's number
            number = re.findall(r"score (?:\d\.)(\d+)", request.body["message"])[0]
            return f"e{int(number)}-{'closed' if 'over' in request.body['message'] else 'opened'}"
        return str(request.headers["idempotency-key"])


class MqttReceiver(Broker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.address = f"mqtt://127.0.0.1:{self.port}"

    def received(self) -> list[str]:
        events = [json.loads(payload) for topic, payload in list(self.messages) if topic == "ssrl/gate_1/events"]
        return [f"{event['event']}-{event['state']}" for event in events]


@pytest.fixture(params=["folder", "webhook", "frigate", "apprise", "mqtt"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    if request.param == "folder":
        yield FolderReceiver(tmp_path)
        return
    made = MqttReceiver(tmp_path) if request.param == "mqtt" else WebReceiver(request.param)
    yield made
    (made.end if isinstance(made, MqttReceiver) else made.stop)()


def deliver_to(address: str, max_notices: int = 100) -> Delivery:
    delivery = Delivery("sink", open_sink(address, CAMERA), max_notices, first_pause=0.05)
    delivery.start()
    return delivery


def numbered(number: int, kind: Kind) -> Notice:
    """An event whose number is in its score too."""
    notice = make_notice(number, kind)
    notice.body["score"] = number / 100
    return notice


def test_every_event_arrives_once_and_in_order_though_the_receiver_is_away(receiver: Receiver) -> None:
    receiver.start()
    delivery = deliver_to(receiver.address)
    keys = []

    def put(*numbers: int) -> None:
        for number in numbers:
            for kind in ("opened", "closed"):
                keys.append(f"e{number}-{kind}")
                delivery.put(numbered(number, kind))

    put(1, 2)
    wait_for(lambda: receiver.received() == keys)
    for number in (3, 5):
        receiver.stop()
        began = time.monotonic()
        put(number, number + 1)
        assert time.monotonic() - began < 0.1  # the watch does not wait for it
        time.sleep(0.2)
        receiver.start()
        wait_for(lambda: len(receiver.received()) >= len(keys))
    assert delivery.finish(10) == 0
    assert receiver.received() == keys
    assert delivery.dropped == 0


def test_what_is_left_at_the_end_is_counted(receiver: Receiver) -> None:
    receiver.start()
    delivery = deliver_to(receiver.address)
    delivery.put(numbered(1, "opened"))
    wait_for(lambda: receiver.received() == ["e1-opened"])
    receiver.stop()
    delivery.put(numbered(2, "opened"))
    began = time.monotonic()
    assert delivery.finish(0.3) == 1
    assert time.monotonic() - began < 3
    receiver.start()
    time.sleep(0.1)
    assert "e3-opened" not in receiver.received()


def test_a_full_queue_drops_the_newest_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    receiver = WebReceiver("webhook")
    delivery = deliver_to(receiver.address, max_notices=2)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            delivery.put(make_notice(number))
    assert delivery.dropped == 3 and "queue is full; dropped e4-opened (3 so far)" in caplog.text
    receiver.start()
    wait_for(lambda: receiver.received() == ["e0-opened", "e1-opened"])
    assert delivery.finish(5) == 0
    receiver.stop()


def test_a_webhook_is_sent_again_with_the_same_key_after_a_failure_but_not_if_it_is_refused() -> None:
    receiver = WebReceiver("webhook")
    receiver.start()
    receiver.codes = [503, 401, 200, 400]
    delivery = deliver_to(receiver.address.replace("http://", "http://:t0ken@"))
    for number in range(3):
        delivery.put(make_notice(number))
    assert delivery.finish(10) == 0
    assert receiver.received() == ["e0-opened", "e2-opened"] and delivery.dropped == 1
    assert receiver.requests[0].headers["authorization"] == "Bearer t0ken"
    assert receiver.requests[0].body == make_notice(0).body
    receiver.stop()


def test_frigate_gets_a_box_and_the_end_of_its_own_event() -> None:
    receiver = WebReceiver("frigate")
    receiver.start()
    delivery = deliver_to(receiver.address + "/intruder")
    delivery.put(make_notice(1))
    delivery.put(make_notice(1, "closed"))
    assert delivery.finish(10) == 0
    create, end = receiver.requests
    assert (create.method, create.path) == ("POST", "/api/events/gate/intruder/create")
    assert create.body["duration"] is None and create.body["draw"]["boxes"][0]["box"] == [0.25, 0.5, 0.5, 0.5]
    assert (end.method, end.path) == ("PUT", "/api/events/frigate-1/end")
    assert end.body == {"end_time": 1767323055.0}
    receiver.stop()


def test_home_assistant_finds_its_sensors_and_hears_when_the_watch_ends(tmp_path: Path) -> None:
    broker = MqttReceiver(tmp_path)
    broker.start()
    delivery = deliver_to(broker.address)
    delivery.put(make_notice(1))
    delivery.put(Notice("score", "score", {"score": 0.25}))
    wait_for(lambda: ("ssrl/gate_1/score", "0.2500") in broker.messages)
    delivery.put(make_notice(1, "closed"))
    assert delivery.finish(10) == 0
    wait_for(lambda: ("ssrl/gate_1/availability", "offline") in broker.messages)
    messages = broker.messages
    states = [payload for topic, payload in messages if topic == "ssrl/gate_1/anomaly"]
    assert states[0] == "OFF" and "ON" in states and states[-1] == "OFF"
    configs = {topic: json.loads(payload) for topic, payload in messages if topic.endswith("/config")}
    assert set(configs) == {
        "homeassistant/binary_sensor/ssrl_gate_1/anomaly/config",
        "homeassistant/sensor/ssrl_gate_1/score/config",
    }
    topics = {topic for topic, _ in messages}
    for config in configs.values():
        assert {config["state_topic"], config["availability_topic"]} <= topics
    broker.end()


def test_a_watch_that_dies_is_offline(tmp_path: Path) -> None:
    broker = MqttReceiver(tmp_path)
    broker.start()
    sink: Any = open_sink(broker.address, CAMERA)
    wait_for(lambda: ("ssrl/gate_1/availability", "online") in broker.messages)
    sink._client.loop_stop()
    sink._client.socket().close()  # as if its process was killed
    wait_for(lambda: broker.messages[-1] == ("ssrl/gate_1/availability", "offline"))
    broker.end()


@pytest.mark.parametrize(
    "address, hint",
    [
        ("ftp://host/x", "unknown"),
        ("http://:80", "names no host"),
        ("http://host:port/", "not an address"),
        ("frigate+http://host:5000/", "name Frigate's camera"),
        ("apprise:nothing://x", "does not take"),
        ("mqtt:///x", "names a host"),
    ],
)
def test_wrong_addresses_are_refused_at_once(address: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        open_sink(address, CAMERA)


@pytest.mark.parametrize("kind, module", [("mqtt://h", "paho.mqtt.client"), ("apprise:json://h", "apprise")])
def test_a_missing_package_is_named(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'ssrl\[watch\]'"):
        open_sink(kind, CAMERA)


def test_a_sink_that_fails_unexpectedly_loses_one_notice_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path))

    class Broken:
        kinds: frozenset[Kind] = frozenset({"opened"})

        def __init__(self) -> None:
            self.taken: list[str] = []

        def deliver(self, notice: Notice) -> None:
            if notice.key == "e1-opened":
                raise ZeroDivisionError("a fault")
            if notice.key == "e2-opened" and not self.taken[1:]:
                self.taken.append("away")
                raise SinkAway("away")
            self.taken.append(notice.key)

        def close(self) -> None: ...

    sink = Broken()
    delivery = Delivery("broken", sink, first_pause=0.01)
    delivery.start()
    for number in range(3):
        delivery.put(make_notice(number))
    assert delivery.finish(5) == 0
    assert sink.taken == ["e0-opened", "away", "e2-opened"] and delivery.dropped == 1


def test_every_kind_of_sink_is_in_the_suite() -> None:
    assert {sink.__name__ for sink in SINKS.values()} == {
        "FolderSink",
        "WebhookSink",
        "FrigateSink",
        "AppriseSink",
        "MqttSink",
    }
