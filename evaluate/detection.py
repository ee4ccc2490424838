"""Events as detections in time: what papers on temporal localization report, and what an operator asks for.

    ap_by_iou         average precision of the events, ranked by their peak score: an event is right if it overlaps an
                      anomaly, not yet found by a better event, with an intersection over union of at least so much
    mean_ap           their mean over IoU 0.1, 0.2, ... 0.5
    detected          anomalies that an event overlaps
    delay_frames      median over these, from the anomaly's first frame to the end of the snippet at which the event
                      opens, which is when a live camera's alarm would come; 0 if the alarm is already on
    delay_seconds     the same in seconds, for the videos whose times are known
    false_alarms_per_hour    events that overlap no anomaly, per hour of the videos whose times are known

Anomalies are the intervals of all videos with frame labels. There is one kind of anomaly: an event's class is not
predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssrl.evaluate.events import Event, EventRule, find_events, find_openings
from ssrl.evaluate.protocol import VideoScores

IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)
UNKNOWN_TIMES = "the times of the videos' frames are not known"
Span = tuple[int, int]  # frames [start, stop)


@dataclass(frozen=True)
class Detection:
    """Events against the annotated anomalies. None where undefined: no anomaly, or unknown frame rates."""

    num_events: int
    num_anomalies: int
    mean_ap: float | None
    ap_by_iou: dict[float, float] | None
    detected: int
    delay_frames: float | None
    delay_seconds: float | None
    false_alarms_per_hour: float | None

    @property
    def mean_ap_percent(self) -> float | None:
        return None if self.mean_ap is None else 100 * self.mean_ap

    def explain_undefined(self) -> dict[str, str]:
        """Metric → why it is None."""
        reasons = {}
        if not self.num_anomalies:
            reasons["temporal.mean_ap"] = "no video has an annotated anomaly"
        if self.delay_frames is None:
            reasons["temporal.delay_frames"] = reasons["temporal.delay_seconds"] = "no anomaly was detected"
        elif self.delay_seconds is None:
            reasons["temporal.delay_seconds"] = UNKNOWN_TIMES
        if self.false_alarms_per_hour is None:
            reasons["temporal.false_alarms_per_hour"] = UNKNOWN_TIMES
        return reasons

    def to_json(self) -> dict[str, Any]:
        by_iou = None if self.ap_by_iou is None else {f"{iou:g}": ap for iou, ap in self.ap_by_iou.items()}
        return vars(self) | {"ap_by_iou": by_iou}


@dataclass(frozen=True)
class _Found:
    """An event in frames; `opened` is the frame at which its alarm comes."""

    video: VideoScores
    span: Span
    opened: int
    score: float

    @property
    def overlaps(self) -> bool:
        return any(_intersect(self.span, anomaly) for anomaly in self.video.clipped_anomalies)


class _Alarm(NamedTuple):
    """How long after the start of an anomaly its alarm came; seconds are None if they are not known."""

    delay_frames: int
    delay_seconds: float | None


def measure_detection(videos: Sequence[VideoScores], rule: EventRule | None = None) -> Detection:
    """Compare the events of videos with frame labels with their anomalies. `rule` is each video's own by default."""
    annotated = [video for video in videos if video.has_frame_labels]
    found = [event for video in annotated for event in _find(video, rule)]
    num_anomalies = sum(len(video.clipped_anomalies) for video in annotated)
    by_iou = {iou: _compute_ap(annotated, found, iou) for iou in IOUS} if num_anomalies else None
    alarms = [alarm for video in annotated for alarm in _find_alarms(video, found)]
    timed = [video for video in annotated if video.timeline is not None]
    hours = sum(video.timeline.recorded for video in timed if video.timeline is not None) / 3600
    false = [event for event in found if event.video.timeline is not None and not event.overlaps]
    return Detection(
        num_events=len(found),
        num_anomalies=num_anomalies,
        mean_ap=None if by_iou is None else float(np.mean(list(by_iou.values()))),
        ap_by_iou=by_iou,
        detected=len(alarms),
        delay_frames=_compute_median([alarm.delay_frames for alarm in alarms]),
        delay_seconds=_compute_median([alarm.delay_seconds for alarm in alarms if alarm.delay_seconds is not None]),
        false_alarms_per_hour=len(false) / hours if hours else None,
    )


def _find(video: VideoScores, rule: EventRule | None) -> list[_Found]:
    bounds = video.frame_bounds
    events = find_events(video, rule)
    return [
        _Found(video, _to_frames(event, bounds), int(bounds[opened + 1]), event.score)
        for event, opened in zip(events, find_openings(video, rule), strict=True)
    ]


def _to_frames(event: Event, bounds: np.ndarray) -> Span:
    return int(bounds[event.start]), int(bounds[event.stop])


def _compute_ap(videos: Sequence[VideoScores], found: Sequence[_Found], iou: float) -> float:
    """The mean, over anomalies, of the precision down to the event that finds it; 0 for anomalies not found."""
    free = {video.id: list(video.clipped_anomalies) for video in videos}
    num_anomalies = sum(map(len, free.values()))
    precisions, hits = [], 0
    for rank, event in enumerate(sorted(found, key=_rank), start=1):
        anomalies = free[event.video.id]
        best = max(anomalies, key=lambda anomaly: _compute_iou(event.span, anomaly), default=None)
        if best is not None and _compute_iou(event.span, best) >= iou:
            anomalies.remove(best)
            hits += 1
            precisions.append(hits / rank)
    return sum(precisions) / num_anomalies


def _rank(event: _Found) -> tuple[float, str, Span]:
    """Best first; ties by video and time, so that the order of videos does not matter."""
    return -event.score, event.video.id, event.span


def _find_alarms(video: VideoScores, found: Sequence[_Found]) -> Iterator[_Alarm]:
    """The first alarm of each anomaly that an event overlaps."""
    for start, stop in video.clipped_anomalies:
        opened = [event.opened for event in found if event.video is video and _intersect(event.span, (start, stop))]
        if opened:
            frames = np.array([start, max(start, min(opened))])
            seconds = None if video.timeline is None else float(np.ptp(video.timeline.locate(frames)))
            yield _Alarm(int(np.ptp(frames)), seconds)


def _compute_median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _intersect(one: Span, other: Span) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _compute_iou(one: Span, other: Span) -> float:
    shared = _intersect(one, other)
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)
