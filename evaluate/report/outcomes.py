"""What a run made of one video: how far its scores are from the ground truth, and whether its events are true.

truth     ▒▒▒▒▒▒          ▒▒▒▒▒▒
events      ┗━━━━┛   ┗━━━┛                one anomaly detected, one missed, and a false alarm
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssrl.datasets.video import to_frame_labels
from ssrl.evaluate.events import Event
from ssrl.evaluate.protocol import VideoScores

OUTCOMES = {  # in the order of the page
    "missed": "Missed",
    "false-alarm": "False alarm",
    "detected": "Detected",
    "event": "With events",  # of a video without a label
    "quiet": "Quiet",
}


@dataclass(frozen=True)
class Outcome:
    """A video's error in 0..1, None where its frames have no labels, and its outcomes, keys of `OUTCOMES`."""

    error: float | None
    kinds: tuple[str, ...]
    are_true: tuple[bool | None, ...]  # one per event; None: not known


def judge(video: VideoScores, events: Sequence[Event]) -> Outcome:
    """Compare a video's scores and events with what is known of it.

    The error is the share of frames on the wrong side of the threshold; in a video with frames of both kinds, the mean
    of the shares of either kind, so that a short anomaly counts as much as the time around it. An anomaly is detected
    where an event overlaps it; an event that overlaps none is a false alarm.
    """
    if video.label is None:
        return Outcome(None, ("event",) if events else ("quiet",), (None,) * len(events))
    if not video.has_frame_labels:  # an abnormal video: any event may be true
        return Outcome(None, ("detected",) if events else ("missed",), (None,) * len(events))
    anomalies, bounds = video.clipped_anomalies, video.frame_bounds
    spans = [(int(bounds[event.start]), int(bounds[event.stop])) for event in events]
    are_true = tuple(any(_overlap(span, anomaly) for anomaly in anomalies) for span in spans)
    kinds = []
    if not all(any(_overlap(span, anomaly) for span in spans) for anomaly in anomalies):
        kinds.append("missed")
    elif anomalies:
        kinds.append("detected")
    if not all(are_true):
        kinds.append("false-alarm")
    return Outcome(measure_error(video), tuple(kinds) or ("quiet",), are_true)


def measure_error(video: VideoScores) -> float:
    """The mean over the kinds of frames in a video of the share on the wrong side of its threshold, in 0..1."""
    normal, anomalous = count_frames(video)
    flagged = video.scores >= video.threshold
    shares = [
        np.average(wrong, weights=kind) for wrong, kind in ((flagged, normal), (~flagged, anomalous)) if kind.any()
    ]
    return float(np.mean(shares))


def count_frames(video: VideoScores) -> tuple[np.ndarray, np.ndarray]:
    """The frames that each score holds for: (T,) normal ones and (T,) anomalous ones."""
    labels = to_frame_labels(video.clipped_anomalies, video.num_frames)
    before = np.concatenate([[0], np.cumsum(labels, dtype=np.int64)])
    anomalous = np.diff(before[video.frame_bounds])
    return np.diff(video.frame_bounds) - anomalous, anomalous


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
