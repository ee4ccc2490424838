"""Scored snippets → lines and notices: what is open, since when, where in the frame, and its clip.

Lines are what the command prints, one JSON object each: of type snippet, event or connection.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from ssrl.evaluate.events import Change, EventRule, EventTracker
from ssrl.evaluate.localization import find_hottest_region
from ssrl.watch.clips import Clip, Recorder
from ssrl.watch.mailbox import Snippet
from ssrl.watch.notices import Notice, round_box
from ssrl.watch.pictures import Hottest, MakeHeat, PictureMaker

LONGEST_EVENT_IN_CLIP = 60.0  # seconds
Line = dict[str, Any]


@dataclass(frozen=True)
class ClipRule:
    """How much a clip shows. No clips are made if `wanted` is false."""

    wanted: bool = False
    before_seconds: float = 5.0
    after_seconds: float = 5.0


@dataclass(frozen=True)
class Times:
    """When a snippet was."""

    start_seconds: float
    end_seconds: float
    start_time: datetime
    time: datetime


class Heats(Protocol):
    """Makes heatmaps of the last snippet that was scored: (H, W) in 0..1, None if the network tells no places apart."""

    def make_heat(self) -> np.ndarray | None:
        """At once, for lines."""

    def prepare_sharp_heat(self, pixels: np.ndarray) -> MakeHeat:
        """Later, for pictures, from the snippet's (L, H, W, 3)."""


class EventLog:
    """Follows the events of one camera. `tell` takes each line, `pictures` each notice."""

    def __init__(
        self,
        camera: str,
        rule: EventRule,
        clips: ClipRule,
        recorder: Recorder,
        heats: Heats,
        tell: Callable[[Line], None],
        pictures: PictureMaker,
    ) -> None:
        self.num_events = 0
        self._camera = camera
        self._tracker = EventTracker(rule)
        self._rule = rule
        self._clips = clips
        self._recorder = recorder
        self._heats = heats
        self._tell = tell
        self._pictures = pictures
        self._times: dict[int, Times] = {}  # of the snippets that an event may refer to
        self._hottest: Hottest | None = None
        self._event_id: str | None = None
        self._clip: Clip | None = None
        self._unfinished: list[tuple[str, Clip]] = []  # clips of closed events, whose last seconds are to come

    def add(self, snippet: Snippet, score: float, dropped_frames: int, now: Callable[[], float]) -> None:
        """Take the next snippet; `now` is the monotonic clock."""
        index = self._tracker.num_snippets
        self._times[index] = Times(snippet.start_seconds, snippet.end_seconds, snippet.start_time, snippet.time)
        change = self._tracker.update(score)
        if change is not None and change.kind == "opened":
            self._event_id = f"{self._camera}-{snippet.time:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        is_open = self._tracker.is_open
        heat = self._heats.make_heat() if is_open else None
        region = None if heat is None else find_hottest_region(heat)
        line: Line = {
            "type": "snippet",
            "time": format_time(snippet.time),
            "seconds": round(snippet.end_seconds, 3),
            "camera": self._camera,
            "score": round(score, 4),
            "state": "open" if is_open else "quiet",
            "event": self._event_id if is_open else None,
            "region": round_box(region) if is_open else None,
            "dropped_frames": dropped_frames,
            "delay": round(now() - snippet.decoded, 3),
        }
        self._tell(line)
        self._pictures.put(Notice("score", "score", line))
        if score >= self._rule.threshold and (self._hottest is None or score > self._hottest.score):
            self._hottest = self._look(snippet, score, heat if is_open else self._heats.make_heat())
        if change is not None:
            self._report(change)
        self._forget(index)
        self.finish_clips()

    def close(self) -> None:
        """Close the event that is open: the source has ended, or was lost."""
        if (change := self._tracker.finish()) is not None:
            self._report(change)
        self._hottest, self._times = None, {}
        self._tracker = EventTracker(self._rule)

    def report_connection(self, state: str, time: datetime, **facts: Any) -> None:
        line: Line = {
            "type": "connection",
            "time": format_time(time),
            "camera": self._camera,
            "state": state,
            **facts,
        }
        self._tell(line)
        self._pictures.put(Notice("connection", f"{self._camera}-{state}-{time:%Y%m%dT%H%M%S.%f}", line))

    def finish_clips(self, is_end: bool = False) -> None:
        """Hand over the clips that are complete; all, at the end."""
        for event_id, clip in list(self._unfinished):
            if is_end or self._recorder.is_complete(clip):
                self._unfinished.remove((event_id, clip))
                body = {"type": "clip", "event": event_id}
                self._pictures.put(Notice("clip", f"{event_id}-clip", body, clip=clip))

    def _look(self, snippet: Snippet, score: float, heat: np.ndarray | None) -> Hottest:
        frame = snippet.pixels[len(snippet.pixels) // 2].copy()
        region = None if heat is None else find_hottest_region(heat)
        return Hottest(score, frame, heat, region, snippet.time, self._heats.prepare_sharp_heat(snippet.pixels.copy()))

    def _report(self, change: Change) -> None:
        event, event_id, hottest = change.event, self._event_id, self._hottest
        assert event_id is not None
        start, last = self._times[event.start], self._times[event.stop - 1]
        line: Line = {
            "type": "event",
            "state": change.kind,
            "event": event_id,
            "camera": self._camera,
            "start_time": format_time(start.start_time),
            "start_seconds": round(start.start_seconds, 3),
            "score": round(event.score, 4),
            "threshold": round(self._rule.threshold, 4),
            "peak_time": format_time(self._times[event.peak].time),
            "region": None if hottest is None else round_box(hottest.region),
        }
        if change.kind == "opened":
            self._begin_clip(start)
        else:
            line |= {"end_time": format_time(last.time), "end_seconds": round(last.end_seconds, 3)}
            self._end_clip(event_id, last)
            self.num_events += 1
            self._event_id, self._hottest = None, None
        self._tell(line)
        self._pictures.put(Notice(change.kind, f"{event_id}-{change.kind}", line), hottest)

    def _begin_clip(self, start: Times) -> None:
        if self._clips.wanted:
            begin = max(0.0, start.start_seconds - self._clips.before_seconds)
            longest = self._clips.before_seconds + LONGEST_EVENT_IN_CLIP + self._clips.after_seconds
            self._clip = self._recorder.begin_clip(begin, longest)

    def _end_clip(self, event_id: str, last: Times) -> None:
        if self._clip is not None:
            self._recorder.end_clip(self._clip, last.end_seconds + self._clips.after_seconds)
            self._unfinished.append((event_id, self._clip))
            self._clip = None

    def _forget(self, index: int) -> None:
        """Forget the times of snippets, and the hottest one, that no event can refer to any more."""
        event = self._tracker.event
        recent = index - self._rule.min_snippets - self._rule.patience
        kept = set() if event is None else {event.start, event.peak, event.stop - 1}
        self._times = {i: times for i, times in self._times.items() if i > recent or i in kept}
        if event is None and self._hottest is not None:
            first = self._times[min(self._times)]
            if self._hottest.time < first.time:
                self._hottest = None


def format_time(time: datetime) -> str:
    """ISO 8601, in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")
