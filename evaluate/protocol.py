"""From snippet scores to frame scores and frame labels: the two ways in which frames are counted.

    num_frames = 40, 16 frames a snippet, frames 20 .. 39 anomalous

    scores      |       s0       |       s1       |   s2   ·  s2  |
    frame       0 ............ 15 16 ........... 31 32 ... 39 · 47
    true         0 0 0 ....... 0   0 0 0 0 1 1 1 1   1 1 .. 1 ·         40 frames, 20 anomalous
    released     0 0 0 ....... 0   0 0 0 0 1 1 1 1   1 1 .. 1 · 1 .. 1  48 frames, 28 anomalous

`true` cuts the last snippet at the end of the video. `released` is what the ground-truth files in common use
count: the last label is repeated until the last snippet is full. Rows that are segments cover the video exactly
(`ssrl.geometry.compute_row_bounds`), so that both protocols count num_frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssrl.datasets.video import to_frame_labels
from ssrl.errors import UserError
from ssrl.geometry import PAPER_FRAMES_PER_SNIPPET, ceil_div, compute_row_bounds
from ssrl.store.layout import StoredVideo

Protocol = Literal["true", "released"]
PROTOCOLS: tuple[Protocol, ...] = ("true", "released")


@dataclass(frozen=True, eq=False)
class VideoScores:
    """One video: what its store knows of it, and what the network said of its rows of features."""

    record: StoredVideo
    scores: np.ndarray  # (T,) float in 0..1, one a snippet, or one a segment
    frames_per_snippet: int = PAPER_FRAMES_PER_SNIPPET

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.frames_per_snippet < 1:
            raise UserError(
                f"video {self.id!r} has {self.num_frames} frames, {self.frames_per_snippet} a snippet; "
                f"both must be at least 1"
            )
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UserError(f"video {self.id!r} has {self.fps} frames a second; give a positive number, or none")
        self._check_scores()

    def _check_scores(self) -> None:
        scores, expected = self.scores, self.num_snippets
        if self.record.rows == "segments":
            if scores.ndim != 1 or not len(scores):
                raise UserError(f"video {self.id!r}: there must be one score a segment, not an array {scores.shape}")
        elif scores.shape != (expected,):
            got = len(scores) if scores.ndim == 1 else f"an array {scores.shape} of"
            raise UserError(
                f"video {self.id!r}: {self.num_frames} frames make {expected} snippets of "
                f"{self.frames_per_snippet}, but there are {got} scores; "
                f"score the video again with the features of this very file"
            )
        if not np.issubdtype(scores.dtype, np.floating):
            raise UserError(f"video {self.id!r}: scores are floating-point numbers, not {scores.dtype}")
        wrong = np.flatnonzero(~((scores >= 0) & (scores <= 1)))  # NaN is wrong too
        if len(wrong):
            raise UserError(
                f"video {self.id!r}: the score of snippet {wrong[0]} is {scores[wrong[0]]}, "
                f"and {len(wrong)} in all lie outside 0..1; check the features and the checkpoint"
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

    @property
    def num_snippets(self) -> int:
        """T = ceil(num_frames / frames_per_snippet)."""
        return ceil_div(self.num_frames, self.frames_per_snippet)

    @property
    def frame_bounds(self) -> np.ndarray:
        """(T + 1,) frame indices: score i holds for the frames [b_i, b_i+1), and b_T is num_frames."""
        return compute_row_bounds(self.record.rows, len(self.scores), self.num_frames, self.frames_per_snippet)

    @property
    def has_frame_labels(self) -> bool:
        """A normal video needs none: its label says that no frame of it is anomalous."""
        return self.anomalies is not None or self.label == 0

    @property
    def clipped_anomalies(self) -> tuple[tuple[int, int], ...]:
        """The intervals [start, stop), cut at the end of the video."""
        cut = ((start, min(stop, self.num_frames)) for start, stop in self.anomalies or ())
        return tuple((start, stop) for start, stop in cut if start < stop)

    @property
    def highest_score(self) -> float:
        return float(self.scores.max())


def frame_arrays(video: VideoScores, protocol: Protocol = "true") -> tuple[np.ndarray, np.ndarray]:
    """Scores (F,) float64 and labels (F,) uint8 of a video's frames.

    F is num_frames under `true`; under `released` it is T * frames_per_snippet where the rows are snippets.
    Intervals are cut at the end of the video; `annotation_warnings` tells where that happens. Raises UserError for
    an abnormal video without frame labels.
    """
    check_protocol(protocol)
    if not video.has_frame_labels:
        raise UserError(f"video {video.id!r} is abnormal and has no frame labels: its frames cannot be judged")
    labels = to_frame_labels(video.clipped_anomalies, video.num_frames)
    scores = np.repeat(video.scores.astype(np.float64), np.diff(video.frame_bounds))  # (num_frames,)
    if protocol == "released" and video.record.rows == "snippets":
        padding = (0, video.num_snippets * video.frames_per_snippet - video.num_frames)
        return np.pad(scores, padding, mode="edge"), np.pad(labels, padding, mode="edge")
    return scores, labels


def check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")


def length_warnings(videos: Sequence[VideoScores]) -> tuple[str, ...]:
    """How many videos were taken to be as long as their features, in words."""
    unknown = [video for video in videos if not video.record.num_frames_known]
    if not unknown:
        return ()
    one = len(unknown) == 1
    lengths = "number of frames of 1 video is" if one else f"numbers of frames of {len(unknown)} videos are"
    return (f"the {lengths} not known: {unknown[0].frames_per_snippet} a {unknown[0].record.rows[:-1]} were taken",)


def annotation_warnings(video: VideoScores) -> tuple[str, ...]:
    """What is odd about a video's frame labels and was settled without stopping, in words."""
    found = []
    for start, stop in video.anomalies or ():
        if stop > video.num_frames:
            rest = f"cut at frame {video.num_frames}" if start < video.num_frames else "left out"
            found.append(
                f"{video.id}: the anomalous frames {start + 1} to {stop} (counted from 1) reach beyond "
                f"the {video.num_frames} frames of the video; {rest}"
            )
    if video.label == 1 and video.anomalies is not None and not video.clipped_anomalies:
        found.append(f"{video.id}: labeled abnormal, but none of its frames is; all of them count as normal")
    return tuple(found)
