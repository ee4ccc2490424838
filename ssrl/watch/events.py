"""Scored snippets → lines and notices: what is open, since when, where in the frame, and its clip.

Lines are what the command prints, one JSON object each: of type snippet, event or connection.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

from ssrl.evaluate.events import Change, EventRule, EventTracker
from ssrl.evaluate.heatmaps import draw_overlay
from ssrl.evaluate.localization import Box, find_hottest_region
from ssrl.watch.clips import Clip, Recorder
from ssrl.watch.mailbox import Snippet
from ssrl.watch.notices import Notice

JPEG_QUALITY = 88
LONGEST_EVENT_IN_CLIP = 60.0  # seconds
Line = dict[str, Any]
Sharpen = Callable[[], np.ndarray | None]  # → (H, W)


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


@dataclass(frozen=True)
class Hottest:
    """The snippet of an event with the highest score so far."""

    score: float
    frame: np.ndarray  # (H, W, 3)
    heat: np.ndarray | None  # (H, W)
    region: Box | None
    time: datetime
    sharpen: Sharpen | None = None  # makes a sharper heatmap

    def sharpened(self) -> Hottest:
        heat = self.sharpen() if self.sharpen else None
        if heat is None:
            return self
        return replace(self, heat=heat, region=find_hottest_region(heat), sharpen=None)


class EventLog:
    """Follows the events of one camera. `tell` takes each line, `notify` each notice."""

    def __init__(
        self,
        camera: str,
        rule: EventRule,
        clips: ClipRule,
        recorder: Recorder,
        tell: Callable[[Line], None],
        notify: Callable[[Notice], None],
    ) -> None:
        self.num_events = 0
        self._camera = camera
        self._tracker = EventTracker(rule)
        self._rule = rule
        self._clips = clips
        self._recorder = recorder
        self._tell = tell
        self._notify = notify
        self._times: dict[int, Times] = {}  # of the snippets that an event may refer to
        self._hottest: Hottest | None = None
        self._event_id: str | None = None
        self._clip: Clip | None = None
        self._unfinished: list[tuple[str, Clip]] = []  # clips of closed events, whose last seconds are to come

    def may_be_event(self, score: float) -> bool:
        """Whether the next snippet, with this score, may begin an event or go on with it: its heatmap is wanted."""
        return self._tracker.is_open or score >= self._rule.threshold

    def is_hottest(self, score: float) -> bool:
        """Whether the next snippet, with this score, will be in the picture of an event if there is one."""
        return score >= self._rule.threshold and (self._hottest is None or score > self._hottest.score)

    def add(
        self,
        snippet: Snippet,
        score: float,
        heat: np.ndarray | None,
        dropped_frames: int,
        now: Callable[[], float],
        sharpen: Sharpen | None = None,
    ) -> None:
        """Take the next snippet; `now` is the monotonic clock. `sharpen` makes a sharp heatmap of it, which takes
        longer: it is called where a picture is made.
        """
        index = self._tracker.num_snippets
        self._times[index] = Times(snippet.start_seconds, snippet.end_seconds, snippet.start_time, snippet.time)
        region = None if heat is None else find_hottest_region(heat)
        if heat is not None and self.is_hottest(score):
            frame = snippet.pixels[len(snippet.pixels) // 2].copy()
            self._hottest = Hottest(score, frame, heat, region, snippet.time, sharpen)
        change = self._tracker.update(score)
        if change is not None and change.kind == "opened":
            self._event_id = f"{self._camera}-{snippet.time:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        is_open = self._tracker.is_open
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
        self._notify(Notice("score", "score", line))
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
        self._notify(Notice("connection", f"{self._camera}-{state}-{time:%Y%m%dT%H%M%S.%f}", line))

    def finish_clips(self, is_end: bool = False) -> None:
        """Hand over the clips that are complete; all, at the end."""
        for event_id, clip in list(self._unfinished):
            if is_end or self._recorder.is_complete(clip):
                self._unfinished.remove((event_id, clip))
                body = {"type": "clip", "event": event_id}
                self._notify(Notice("clip", f"{event_id}-clip", body, clip=clip))

    def _report(self, change: Change) -> None:
        if self._hottest is not None:
            self._hottest = self._hottest.sharpened()
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
        picture = None if hottest is None else draw_picture(hottest)
        self._notify(Notice(change.kind, f"{event_id}-{change.kind}", line, picture))

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


def draw_picture(hottest: Hottest) -> bytes:
    """The hottest snippet's middle frame under its heatmap, as JPEG."""
    picture = hottest.frame
    if hottest.heat is not None:
        picture = draw_overlay(hottest.frame, hottest.heat, hottest.score, f"{hottest.time:%Y-%m-%d %H:%M:%S}")
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="JPEG", quality=JPEG_QUALITY)
    return content.getvalue()


def format_time(time: datetime) -> str:
    """ISO 8601, in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def round_box(box: Box | None) -> list[float] | None:
    """Left, top, right, bottom, in fractions of the frame."""
    return None if box is None else [round(side, 4) for side in box]
