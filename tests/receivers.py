"""Receivers of events that can be stopped and started again, in the middle."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class HttpReceiver:
    """Keeps the requests that it answered with 200, and answers with other codes as told."""

    def __init__(self) -> None:
        self.port = find_port()
        self.requests: list[Request] = []
        self.codes: list[int] = []  # for the next requests
        self.seconds = 0.0  # that each answer takes
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                time.sleep(receiver.seconds)
                code = receiver.codes.pop(0) if receiver.codes else 200
                if code == 200:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    receiver.requests.append(Request(self.command, self.path, headers, json.loads(body)))
                answer = json.dumps({"success": True, "event_id": f"frigate-{len(receiver.requests)}"}).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PUT = handle_any

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Broker:
    """An MQTT broker in a process of its own (Mosquitto if installed, else our own), and a subscriber to all topics."""

    def __init__(self, folder: Path) -> None:
        self.port = find_port()
        self.messages: list[tuple[str, str]] = []
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._is_subscribed = threading.Event()
        self._subscriber = paho.Client(CallbackAPIVersion.VERSION2, client_id="test", clean_session=False)
        self._subscriber.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._subscriber.on_subscribe = lambda *_: self._is_subscribed.set()
        self._subscriber.on_disconnect = lambda *_: self._is_subscribed.clear()
        self._subscriber.on_message = lambda _, __, message: self.messages.append(
            (message.topic, message.payload.decode())
        )
        self._subscriber.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self._has_begun = False

    def start(self) -> None:
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        wait_for(self._answers)
        if not self._has_begun:
            self._has_begun = True
            self._subscriber.connect("127.0.0.1", self.port, 30)
            self._subscriber.loop_start()
        assert self._is_subscribed.wait(10)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
            wait_for(lambda: not self._is_subscribed.is_set())

    def end(self) -> None:
        self.stop()
        self._subscriber.disconnect()
        self._subscriber.loop_stop()

    def _command(self) -> list[str]:
        config = self._folder / "broker.conf"
        if mosquitto := shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"):
            config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
            return [mosquitto, "-c", str(config)]
        return [sys.executable, str(Path(__file__).with_name("mqtt_broker.py")), str(self.port)]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
