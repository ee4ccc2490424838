"""A video's scores as a drawing in SVG: small, sharp at any width, and colored by the page's style sheet.

A strip is one video: its score as steps over the shaded ground truth, time from left to right, in frames of usual
length, and its events below. Where the recording pauses there is no score.

    1 ┤          ┌──┐ ▒▒▒▒▒▒
      ┤╌╌╌╌╌╌╌╌╌╌│╌╌│╌▒▒▒▒▒▒╌╌░░░╌╌╌  threshold
    0 ┤──────────┘  └─▒▒▒▒▒▒──░░░───
                  ━━━━━━             events
      0        frames        pause  F
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise

import numpy as np
from markupsafe import Markup

from ssrl.evaluate.events import Event
from ssrl.evaluate.protocol import VideoScores

MAX_STEPS = 720  # per strip; beyond that, each column shows the lowest and highest score of several snippets
STRIP_HEIGHT = 1000  # in units of the drawing; a score of 1 is at 0
ABOVE = -35  # of the line over the ground truth, clear of a score of 1
BELOW = 1045  # of the line under an event
MAX_TICKS = 7


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a strip."""

    video: VideoScores

    @property
    def width(self) -> int:
        return self.place(self.video.num_frames)

    def place(self, frame: int) -> int:
        """Where a frame begins; frame F is the end."""
        time = self.video.timeline
        return frame if time is None else round(float(time.locate(np.array(frame))) / time.step)

    def split(self, bounds: np.ndarray) -> list[tuple[int, int, int]]:
        """For bounds (n + 1,) of n runs of frames: the index of a run, and from where to where a part of it lies."""
        time = self.video.timeline
        if time is None:
            return [(i, start, stop) for i, (start, stop) in enumerate(pairwise(bounds.tolist()))]
        return [(i, round(start / time.step), round(stop / time.step)) for i, start, stop in time.split(bounds)]

    @property
    def pauses(self) -> list[tuple[int, int]]:
        time = self.video.timeline
        return [] if time is None else [(round(p.start / time.step), round(p.stop / time.step)) for p in time.pauses]

    @property
    def knots(self) -> str:
        """Places and the frames there, evenly spaced in between: "0:0 50:50 250:51"; empty if each is the other."""
        time = self.video.timeline
        if time is None or time.is_steady:
            return ""
        starts = np.append(merge_steps(self.video)[0], self.video.num_frames)
        resumed = [frame for pause in time.pauses for frame in (pause.frame - 1, pause.frame)]
        return " ".join(f"{self.place(frame)}:{frame}" for frame in sorted({*starts.tolist(), *resumed}))


def draw_strip(video: VideoScores, events: Sequence[Event] = (), other: VideoScores | None = None) -> Markup:
    """One video's scores over its ground truth; stretches to the width of its container. `other` is another run's."""
    axis, truth = Axis(video), video.clipped_anomalies
    bands = "".join(
        f'<rect class="truth" x="{start}" y="0" width="{stop - start}" height="{STRIP_HEIGHT}"/>'
        f'<path class="truth-edge" d="M{start} {ABOVE}H{stop}"/>'
        for interval in truth
        for _, start, stop in axis.split(np.array(interval))
    )
    bands += "".join(
        f'<rect class="pause" x="{start}" y="0" width="{stop - start}" height="{STRIP_HEIGHT}">'
        f"<title>no recording</title></rect>"
        for start, stop in axis.pauses
    )
    marks = "".join(
        f'<path class="event" d="M{start} {BELOW}H{stop}"/>'
        for event in events
        for _, start, stop in axis.split(video.frame_bounds[[event.start, event.stop]])
    )
    description = f"Anomaly scores; peak {video.highest_score:.2f}; events: {len(events)}"
    if video.label is not None and video.has_frame_labels:
        description += f"; anomalous intervals: {len(truth)}"
    second = ""
    if other is not None:
        description += f"; peak of the other run {other.highest_score:.2f}"
        second = (
            f'{_draw_threshold(other, axis, "other-threshold")}<path class="other" d="{_trace_steps(other, axis)}"/>'
        )
    return Markup(
        f'<svg class="strip" viewBox="0 0 {axis.width} {STRIP_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{description}">{bands}{_draw_threshold(video, axis)}'
        f'<path class="score" d="{_trace_steps(video, axis)}"/>{second}{marks}</svg>'
    )


def _draw_threshold(video: VideoScores, axis: Axis, name: str = "threshold") -> str:
    return f'<path class="{name}" d="M0 {STRIP_HEIGHT * (1 - video.threshold):g}H{axis.width}"/>'


def _trace_steps(video: VideoScores, axis: Axis) -> str:
    """The path of the scores, from the lower left corner to the lower right one; it falls to 0 at a pause."""
    starts, scores = merge_steps(video)
    heights = np.rint(STRIP_HEIGHT * (1 - scores)).astype(int)
    changes = np.append(True, heights[1:] != heights[:-1])
    bounds, heights = np.append(starts[changes], video.num_frames), heights[changes]
    path, last = f"M0 {STRIP_HEIGHT}", 0
    for step, start, stop in axis.split(bounds):
        if start != last:
            path += f"V{STRIP_HEIGHT}M{start} {STRIP_HEIGHT}"
        path += f"V{heights[step]}H{stop}"
        last = stop
    return f"{path}V{STRIP_HEIGHT}"


def merge_steps(video: VideoScores) -> tuple[np.ndarray, np.ndarray]:
    """First frames (S,) and scores (S,) of a strip's steps, S <= MAX_STEPS; peaks and dips are kept."""
    scores, bounds = video.scores.astype(np.float64), video.frame_bounds
    if len(scores) <= MAX_STEPS:
        return bounds[:-1], scores
    edges = np.linspace(0, len(scores), MAX_STEPS // 2 + 1).astype(int)
    halves = []
    for start, stop in pairwise(edges):
        column = scores[start:stop]
        low, high = column.min(), column.max()
        halves += [high, low] if column.argmax() < column.argmin() else [low, high]
    middles = (bounds[edges[:-1]] + bounds[edges[1:]]) / 2
    starts = np.column_stack([bounds[edges[:-1]], middles]).ravel()
    return np.rint(starts).astype(int), np.array(halves)


def place_frame_ticks(num_frames: int) -> list[int]:
    """About 4 to 7 integers from 0 to `num_frames`, evenly spaced by 1, 2 or 5 times a power of ten."""
    return _place_ticks(num_frames, (factor * 10**power for power in count() for factor in (1, 2, 5)))


def place_second_ticks(seconds: float) -> list[int]:
    """Seconds from 0 to `seconds`, evenly spaced as on a clock, by whole hours if long."""
    on_a_clock = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
    return _place_ticks(int(seconds), chain(on_a_clock, (3600 * hours for hours in count(1))))


def _place_ticks(end: int, spacings: Iterable[int]) -> list[int]:
    step = next(spacing for spacing in spacings if end // spacing < MAX_TICKS)
    return list(range(0, end + 1, step))
