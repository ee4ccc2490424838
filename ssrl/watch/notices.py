"""What is told to sinks: one value, whatever takes it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from ssrl.evaluate.localization import Box
from ssrl.watch.clips import Clip

Kind = Literal["opened", "closed", "clip", "connection", "score"]


@dataclass(frozen=True)
class Notice:
    """An event that opened or closed, its clip, a change of the connection, or the score of now."""

    kind: Kind
    key: str  # the same whenever it is delivered again
    body: dict[str, Any]  # as printed, but for the region of an event, which is that of its picture
    picture: bytes | None = field(default=None, repr=False)  # JPEG
    clip: Clip | None = field(default=None, repr=False)

    @property
    def event_id(self) -> str:
        return str(self.body.get("event", ""))

    @property
    def text(self) -> str:
        """The body as one line of JSON."""
        return to_line(self.body)

    @property
    def num_bytes(self) -> int:
        return len(self.text) + len(self.picture or b"") + (self.clip.num_bytes if self.clip else 0)


def to_line(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)


def round_box(box: Box | None) -> list[float] | None:
    """Left, top, right, bottom, in fractions of the frame."""
    return None if box is None else [round(side, 4) for side in box]


def describe(notice: Notice) -> str:
    """A sentence for people."""
    body = notice.body
    if notice.kind == "connection":
        return f"{body['camera']}: connection {body['state']}"
    at = f"{body['camera']} at {body['start_time']}"
    if notice.kind == "opened":
        return f"Anomaly on {at}, score {body['score']:.2f}"
    seconds = body["end_seconds"] - body["start_seconds"]
    return f"Anomaly over on {at}: {seconds:.0f} s, highest score {body['score']:.2f}"
