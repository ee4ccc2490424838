"""Where events go. The beginning of an address names the sink; a path alone is a folder."""

from __future__ import annotations

from collections.abc import Callable

from ssrl.errors import UserError
from ssrl.watch.sinks.apprise_sink import AppriseSink
from ssrl.watch.sinks.base import Camera, Sink, SinkAway, SinkRefused
from ssrl.watch.sinks.delivery import Delivery
from ssrl.watch.sinks.folder import FolderSink
from ssrl.watch.sinks.frigate import FrigateSink
from ssrl.watch.sinks.mqtt import MqttSink
from ssrl.watch.sinks.webhook import WebhookSink

__all__ = ["SINKS", "Camera", "Delivery", "Sink", "SinkAway", "SinkRefused", "open_sink"]

SINKS: dict[str, Callable[[str, Camera], Sink]] = {
    "folder:": FolderSink,
    "http://": WebhookSink,
    "https://": WebhookSink,
    "mqtt://": MqttSink,
    "mqtts://": MqttSink,
    "frigate+http://": FrigateSink,
    "frigate+https://": FrigateSink,
    "apprise:": AppriseSink,
}


def open_sink(address: str, camera: Camera) -> Sink:
    """Raises a UserError for an unknown kind or a missing package; a receiver may still be away."""
    for beginning, sink in SINKS.items():
        if address.lower().startswith(beginning):
            return sink(address, camera)
    if "://" in address:
        raise UserError(f"sinks of this kind are unknown: {address}; known are a path, {', '.join(SINKS)}")
    return FolderSink(address, camera)
