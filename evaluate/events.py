"""Events: where the score stays high. One tracker follows live snippets and finished videos alike.

    snippet    0  1  2  3  4  5  6  7  8  9
    score      .  .  9  9  6  .  9  .  .  .       threshold 8, release 5, patience 2, min_snippets 2
    event            └──────────┘                 opened at snippet 3, closed at snippet 8

An event begins where the score reaches the threshold, lasts while it stays at or above the release level, and is over
after `patience` snippets below it. Events shorter than `min_snippets` are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ssrl.errors import UserError
from ssrl.evaluate.protocol import THRESHOLD, VideoScores

RELEASE = 0.8  # of the threshold
EVEN = 0.5  # a calibrated score below it is more likely normal than abnormal
ABOVE_ALL = math.nextafter(1.0, 2.0)  # a measured threshold that no score reaches


@dataclass(frozen=True)
class EventRule:
    """When an event begins, goes on and ends. Scores lie in 0..1; lengths are in snippets."""

    threshold: float = THRESHOLD
    release: float | None = None  # at most the threshold; None: see `choose_release`
    patience: int = 2  # snippets below the release level that end an event
    min_snippets: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= ABOVE_ALL:
            raise UserError(f"an event's threshold must lie in 0..1, above 0, not {self.threshold}")
        if self.release is not None and not 0 < self.release <= self.threshold:
            raise UserError(f"the release level must lie above 0 and at most at {self.threshold}, not {self.release}")
        if self.patience < 1 or self.min_snippets < 1:
            raise UserError(f"patience and length of an event must be at least 1 snippet, not {self}")

    @property
    def release_level(self) -> float:
        return choose_release(self.threshold) if self.release is None else self.release


def choose_release(threshold: float) -> float:
    """The score down to which an event goes on: a share of the threshold, but at least halfway from even odds to a
    threshold above them. So the events of an unsure network, whose scores lie about these odds, end too.
    """
    return RELEASE * threshold if threshold <= EVEN else max(RELEASE * threshold, (threshold + EVEN) / 2)


@dataclass(frozen=True)
class Event:
    """The snippets [start, stop) of a video."""

    start: int
    stop: int
    peak: int  # the snippet with the highest score
    score: float  # of the peak

    def __len__(self) -> int:
        return self.stop - self.start

    def extend(self, snippet: int, score: float) -> Event:
        """Go on until after `snippet`."""
        if score > self.score:
            return Event(self.start, snippet + 1, snippet, score)
        return replace(self, stop=snippet + 1)


class Change(NamedTuple):
    """An event has opened, and is going on, or has closed."""

    kind: Literal["opened", "closed"]
    event: Event


class EventTracker:
    """Follows the scores of one video, snippet by snippet."""

    def __init__(self, rule: EventRule) -> None:
        self.rule = rule
        self.num_snippets = 0
        self.is_open = False
        self._event: Event | None = None  # not yet reported while it is too short

    @property
    def event(self) -> Event | None:
        """The event that is open."""
        return self._event if self.is_open else None

    def update(self, score: float) -> Change | None:
        """Take the next snippet's score."""
        snippet, self.num_snippets = self.num_snippets, self.num_snippets + 1
        if self._event is None:
            if score < self.rule.threshold:
                return None
            self._event = Event(snippet, snippet + 1, snippet, score)
        elif score >= self.rule.release_level:
            self._event = self._event.extend(snippet, score)
        else:
            is_over = self.num_snippets - self._event.stop >= self.rule.patience
            return self.finish() if is_over else None
        if self.is_open or len(self._event) < self.rule.min_snippets:
            return None
        self.is_open = True
        return Change("opened", self._event)

    def finish(self) -> Change | None:
        """End the event that is open, as at the end of the video."""
        event, self._event, self.is_open = self.event, None, False
        return None if event is None else Change("closed", event)


def track_events(scores: Iterable[float], rule: EventRule) -> tuple[Event, ...]:
    """Find the events in the scores of a whole video, in order."""
    tracker = EventTracker(rule)
    changes = [*(tracker.update(float(score)) for score in scores), tracker.finish()]
    return tuple(change.event for change in changes if change is not None and change.kind == "closed")


def find_events(video: VideoScores, rule: EventRule | None = None) -> tuple[Event, ...]:
    """Find a video's events, by default above its own threshold. A video of one snippet may have an event."""
    return track_events(video.scores, _fit_rule(video, rule))


def find_openings(video: VideoScores, rule: EventRule | None = None) -> tuple[int, ...]:
    """The snippets at which the events of `find_events` are first reported."""
    tracker = EventTracker(_fit_rule(video, rule))
    changes = [tracker.update(float(score)) for score in video.scores]
    return tuple(snippet for snippet, change in enumerate(changes) if change is not None and change.kind == "opened")


def _fit_rule(video: VideoScores, rule: EventRule | None) -> EventRule:
    rule = rule or EventRule(video.threshold)
    return replace(rule, min_snippets=min(rule.min_snippets, len(video.scores)))
