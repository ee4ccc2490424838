"""From snippet scores to frame scores and frame labels: the two protocols by which frames are counted.

    num_frames = 40, 16 frames per snippet, frames 20 .. 39 anomalous

    scores      |       s0       |       s1       |   s2   ·  s2  |
    frame       0 ............ 15 16 ........... 31 32 ... 39 · 47
    true         0 0 0 ....... 0   0 0 0 0 1 1 1 1   1 1 .. 1 ·         40 frames, 20 anomalous
    released     0 0 0 ....... 0   0 0 0 0 1 1 1 1   1 1 .. 1 · 1 .. 1  48 frames, 28 anomalous

`true` cuts the last snippet at the end of the video. `released` counts as the ground-truth files in common use do:
the last label is repeated until the last snippet is full. Rows that are segments cover the video exactly
(`ssrl.geometry.row_bounds`), so both protocols count num_frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ssrl.datasets.video import to_frame_labels
from ssrl.errors import UserError
from ssrl.evaluate.timeline import Timeline
from ssrl.geometry import PAPER_FRAMES_PER_SNIPPET, ceil_div, compute_row_bounds
from ssrl.store.layout import StoredVideo

Protocol = Literal["true", "released"]
THRESHOLD = 0.5  # as in the literature, where none was measured
PROTOCOLS: tuple[Protocol, ...] = ("true", "released")


@dataclass(frozen=True, eq=False)
class VideoScores:
    """One video: its record in the store, and the network's score for each row of its features."""

    record: StoredVideo
    scores: np.ndarray  # (T,) float in 0..1, one per snippet or segment
    frames_per_snippet: int = PAPER_FRAMES_PER_SNIPPET
    threshold: float = THRESHOLD  # a score of this or more raises an alarm
    distance: float | None = None  # from the training videos; above 1: unlike them
    seconds: np.ndarray | None = None  # (num_frames,) at which each frame is shown; None: by the frame rate, if known

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.frames_per_snippet < 1:
            raise UserError(
                f"video {self.id!r} has {self.num_frames} frames, {self.frames_per_snippet} per snippet; "
                f"both must be at least 1"
            )
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UserError(f"video {self.id!r} has {self.fps} frames per second; give a positive number, or None")
        if self.seconds is not None and self.seconds.shape != (self.num_frames,):
            raise UserError(f"video {self.id!r} has {self.num_frames} frames, but times {self.seconds.shape}")
        self._check_scores()

    def _check_scores(self) -> None:
        scores, expected = self.scores, self.num_snippets
        if self.record.rows == "segments":
            if scores.ndim != 1 or not len(scores):
                raise UserError(f"video {self.id!r}: expected one score per segment, not shape {scores.shape}")
        elif scores.shape != (expected,):
            got = len(scores) if scores.ndim == 1 else f"an array {scores.shape} of"
            raise UserError(
                f"video {self.id!r}: {self.num_frames} frames make {expected} snippets of "
                f"{self.frames_per_snippet}, but there are {got} scores; "
                f"score the video again with its own features"
            )
        if not np.issubdtype(scores.dtype, np.floating):
            raise UserError(f"video {self.id!r}: scores must be floating-point, not {scores.dtype}")
        invalid = np.flatnonzero(~((scores >= 0) & (scores <= 1)))  # includes NaN
        if len(invalid):
            raise UserError(
                f"video {self.id!r}: the score of snippet {invalid[0]} is {scores[invalid[0]]} "
                f"({len(invalid)} scores outside 0..1); check the features and the checkpoint"
            )

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def label(self) -> int | None:
        return self.record.video.label

    @property
    def category(self) -> str:
        return self.record.video.category

    @property
    def anomalies(self) -> tuple[tuple[int, int], ...] | None:
        return self.record.video.anomalies

    @property
    def num_frames(self) -> int:
        return self.record.num_frames

    @property
    def fps(self) -> float | None:
        return self.record.fps

    @cached_property
    def timeline(self) -> Timeline | None:
        """When the frames are shown; None if it is not known."""
        return Timeline.of(self.num_frames, self.fps, self.seconds)

    @property
    def num_snippets(self) -> int:
        """T = ceil(num_frames / frames_per_snippet)."""
        return ceil_div(self.num_frames, self.frames_per_snippet)

    @property
    def frame_bounds(self) -> np.ndarray:
        """(T + 1,) frame indices: score i covers the frames [b_i, b_i+1), and b_T is num_frames."""
        return compute_row_bounds(self.record.rows, len(self.scores), self.num_frames, self.frames_per_snippet)

    @property
    def has_frame_labels(self) -> bool:
        """A normal video always has: its label says that no frame is anomalous."""
        return self.anomalies is not None or self.label == 0

    @property
    def clipped_anomalies(self) -> tuple[tuple[int, int], ...]:
        """The intervals [start, stop), cut at the end of the video."""
        clipped = ((start, min(stop, self.num_frames)) for start, stop in self.anomalies or ())
        return tuple((start, stop) for start, stop in clipped if start < stop)

    @property
    def is_foreign(self) -> bool:
        """Whether the video is so unlike the training videos that its scores mean little."""
        return self.distance is not None and self.distance > 1

    @property
    def flagged_share(self) -> float:
        """The share of the frames that raise an alarm."""
        return float(np.average(self.scores >= self.threshold, weights=np.diff(self.frame_bounds)))

    @property
    def highest_score(self) -> float:
        return float(self.scores.max())


def expand_to_frames(video: VideoScores, protocol: Protocol = "true") -> tuple[np.ndarray, np.ndarray]:
    """Expand a video to frames: scores (F,) float64 and labels (F,) uint8.

    F is num_frames under `true`; under `released` it is T * frames_per_snippet where the rows are snippets.
    Intervals are cut at the end of the video, which `describe_conflicts` reports. Raises a UserError for an abnormal
    video without frame labels.
    """
    check_protocol(protocol)
    if not video.has_frame_labels:
        raise UserError(f"video {video.id!r} is abnormal but has no frame labels, which frame-level metrics need")
    labels = to_frame_labels(video.clipped_anomalies, video.num_frames)
    scores = np.repeat(video.scores.astype(np.float64), np.diff(video.frame_bounds))  # (num_frames,)
    if protocol == "released" and video.record.rows == "snippets":
        padding = (0, video.num_snippets * video.frames_per_snippet - video.num_frames)
        return np.pad(scores, padding, mode="edge"), np.pad(labels, padding, mode="edge")
    return scores, labels


def check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")


def describe_unknown_lengths(videos: Sequence[VideoScores]) -> tuple[str, ...]:
    """Warn of videos whose length was inferred from their features."""
    unknown = [video for video in videos if not video.record.num_frames_known]
    if not unknown:
        return ()
    videos_are = "1 video is" if len(unknown) == 1 else f"{len(unknown)} videos are"
    row = unknown[0].record.rows[:-1]
    return (f"{videos_are} of unknown length: assuming {unknown[0].frames_per_snippet} frames per {row}",)


def describe_conflicts(video: VideoScores) -> tuple[str, ...]:
    """Warn of frame labels that conflict with a video's length or label, and say what was done about them."""
    warnings = []
    for start, stop in video.anomalies or ():
        if stop > video.num_frames:
            action = f"cut at frame {video.num_frames}" if start < video.num_frames else "left out"
            warnings.append(
                f"{video.id}: the anomalous frames {start + 1} to {stop} (counted from 1) lie beyond "
                f"the {video.num_frames} frames of the video; {action}"
            )
    if video.label == 1 and video.anomalies is not None and not video.clipped_anomalies:
        warnings.append(f"{video.id}: labeled abnormal, but none of its frames is; all count as normal")
    return tuple(warnings)
