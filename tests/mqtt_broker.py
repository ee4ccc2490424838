"""A broker of MQTT 3.1.1 for tests, as far as these need it, where Mosquitto is not installed.

Every subscriber gets every message, at QoS 0; retained messages and last wills are kept. No sessions.

python mqtt_broker.py PORT
"""

from __future__ import annotations

import socketserver
import struct
import sys
import threading
from contextlib import suppress

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14
CONNACK, PUBACK, SUBACK, PINGRESP = b"\x20\x02\x00\x00", b"\x40\x02", b"\x90\x03", b"\xd0\x00"


class Client(socketserver.StreamRequestHandler):
    """One connection."""

    subscribers: set[Client] = set()  # noqa: RUF012
    retained: dict[bytes, bytes] = {}  # noqa: RUF012
    lock = threading.Lock()

    def handle(self) -> None:
        self.will: tuple[bytes, bytes] | None = None
        with suppress(OSError, EOFError):
            while self._answer():
                pass
        with self.lock:
            self.subscribers.discard(self)
        if self.will is not None:
            self._spread(*self.will, keep=True)

    def _answer(self) -> bool:
        first, body = self._read(1)[0], self._read_body()
        kind, flags = first >> 4, first & 15
        if kind == CONNECT:
            name, rest = take(body)
            has_will, rest = rest[1] & 4, rest[4:]
            _, rest = take(rest)  # the client's id
            if has_will:
                topic, rest = take(rest)
                self.will = topic, take(rest)[0]
            self._write(CONNACK)
        elif kind == PUBLISH:
            topic, rest = take(body)
            if flags & 6:
                self._write(PUBACK + rest[:2])
                rest = rest[2:]
            self._spread(topic, rest, keep=bool(flags & 1))
        elif kind == SUBSCRIBE:
            self._write(SUBACK + body[:2] + b"\x00")
            with self.lock:
                self.subscribers.add(self)
                kept = list(self.retained.items())
            for topic, payload in kept:
                self._write(pack(topic, payload))
        elif kind == PINGREQ:
            self._write(PINGRESP)
        elif kind == DISCONNECT:
            self.will = None
        return kind != DISCONNECT

    def _spread(self, topic: bytes, payload: bytes, keep: bool) -> None:
        with self.lock:
            if keep:
                self.retained[topic] = payload
            subscribers = list(self.subscribers)
        for each in subscribers:
            each._write(pack(topic, payload))

    def _write(self, content: bytes) -> None:
        with suppress(OSError):  # it has left
            self.request.sendall(content)

    def _read(self, size: int) -> bytes:
        content = self.rfile.read(size)
        if len(content) < size:
            raise EOFError
        return content

    def _read_body(self) -> bytes:
        length, shift = 0, 0
        while True:
            byte = self._read(1)[0]
            length += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return self._read(length)


def take(content: bytes) -> tuple[bytes, bytes]:
    """A field with its length before it, and the rest."""
    (length,) = struct.unpack(">H", content[:2])
    return content[2 : 2 + length], content[2 + length :]


def pack(topic: bytes, payload: bytes) -> bytes:
    """A message at QoS 0."""
    body = struct.pack(">H", len(topic)) + topic + payload
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return b"\x30" + length + body


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Client).serve_forever()
