"""A webhook: one POST of JSON per event opened or closed and per change of the connection."""

from __future__ import annotations

from ssrl.watch.notices import Kind, Notice
from ssrl.watch.sinks.base import Camera
from ssrl.watch.sinks.http import HttpClient


class WebhookSink:
    """See `Sink`. A notice that is sent again, since its answer was lost, has the same Idempotency-Key."""

    kinds: frozenset[Kind] = frozenset({"opened", "closed", "connection"})

    def __init__(self, address: str, camera: Camera) -> None:
        self._client = HttpClient(address)

    def deliver(self, notice: Notice) -> None:
        self._client.send("POST", self._client.url, notice.body, notice.key)

    def close(self) -> None:
        self._client.close()
