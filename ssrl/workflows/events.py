"""The events of a video, with their times and places, as programs read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssrl.evaluate.events import Event
from ssrl.evaluate.localization import Box
from ssrl.evaluate.protocol import VideoScores
from ssrl.files import write_json


@dataclass(frozen=True)
class LocatedEvent:
    """The frames [start, stop) of a video, counted from 0, in which its score is high."""

    start_frame: int
    stop_frame: int
    peak_frame: int  # in the middle of the snippet with the highest score
    start_seconds: float | None  # None: the frames' times are not known
    stop_seconds: float | None
    peak_seconds: float | None
    confidence: float  # the calibrated score of the peak
    box: Box | None = None  # of the hottest region at the peak; None: not known

    @classmethod
    def of(cls, video: VideoScores, event: Event, box: Box | None = None) -> LocatedEvent:
        start, stop = int(video.frame_bounds[event.start]), int(video.frame_bounds[event.stop])
        peak = find_peak_frame(video, event.peak)
        times: tuple[float | None, float | None, float | None] = (None, None, None)
        if video.timeline is not None:
            shown = list(video.timeline.split(np.array([start, stop])))  # in parts, where the recording pauses
            times = (shown[0][1], shown[-1][2], float(video.timeline.starts[peak]))
        return cls(start, stop, peak, *times, event.score, box)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "box": self.box and self.box._asdict()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LocatedEvent:
        return cls(**{**value, "box": value["box"] and Box(**value["box"])})


def write_events(path: Path, events: Sequence[LocatedEvent]) -> None:
    write_json(path, {"events": [event.to_json() for event in events]})


def read_events(path: Path) -> tuple[LocatedEvent, ...]:
    """The inverse of `write_events`."""
    return tuple(map(LocatedEvent.from_json, json.loads(path.read_text(encoding="utf-8"))["events"]))


def find_peak_frame(video: VideoScores, snippet: int) -> int:
    """The middle frame of a snippet."""
    return int(video.frame_bounds[snippet] + video.frame_bounds[snippet + 1]) // 2
