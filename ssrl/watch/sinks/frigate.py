"""Frigate: an event of ours is an event of Frigate's, which records it, from its opening to its end.

frigate+http://host:5000/CAMERA[/LABEL]    CAMERA as in Frigate's configuration; LABEL is "anomaly" otherwise
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ssrl.errors import UserError
from ssrl.watch.notices import Kind, Notice
from ssrl.watch.sinks.base import Camera, SinkRefused
from ssrl.watch.sinks.http import HttpClient

LABEL = "anomaly"
RED = [255, 0, 0]


class FrigateSink:
    """See `Sink`."""

    kinds: frozenset[Kind] = frozenset({"opened", "closed"})

    def __init__(self, address: str, camera: Camera) -> None:
        parts = urlsplit(address.removeprefix("frigate+"))
        names = [name for name in parts.path.split("/") if name]
        if not 1 <= len(names) <= 2:
            raise UserError(f"{address} must name Frigate's camera: frigate+http://host:5000/CAMERA[/LABEL]")
        self._client = HttpClient(urlunsplit(parts._replace(path="/api/events", query="", fragment="")))
        self._place = f"{names[0]}/{unquote(names[1]) if len(names) == 2 else LABEL}"
        self._ids: dict[str, str] = {}  # of events that are open: ours → Frigate's

    def deliver(self, notice: Notice) -> None:
        if notice.kind == "opened":
            url = f"{self._client.url}/{self._place}/create"
            response = self._client.send("POST", url, make_body(notice.body), notice.key)
            try:
                self._ids[notice.event_id] = str(response.json()["event_id"])
            except (ValueError, KeyError, TypeError) as error:
                raise SinkRefused("its answer has no event_id; is this Frigate's API?") from error
        elif notice.event_id in self._ids:  # otherwise Frigate refused it
            end = datetime.fromisoformat(notice.body["end_time"]).timestamp()
            url = f"{self._client.url}/{self._ids[notice.event_id]}/end"
            self._client.send("PUT", url, {"end_time": end}, notice.key)
            del self._ids[notice.event_id]

    def close(self) -> None:
        self._client.close()


def make_body(body: dict[str, Any]) -> dict[str, Any]:
    """Frigate's event: without a duration it lasts until it is ended. Boxes are left, top, width, height."""
    event = {
        "source_type": "ssrl",
        "sub_label": body["event"],
        "score": body["score"],
        "duration": None,
        "include_recording": True,
    }
    if body["region"]:
        left, top, right, bottom = body["region"]
        box = [left, top, right - left, bottom - top]
        event["draw"] = {"boxes": [{"box": box, "color": RED, "score": round(100 * body["score"])}]}
    return event
