"""The report's drawings as SVG: small, sharp at any width, and colored by the page's style sheet.

A strip is one video: its score as steps over the shaded ground truth, the frame number from left to right.

    1 ┤          ┌──┐ ▒▒▒▒▒▒
      ┤╌╌╌╌╌╌╌╌╌╌│╌╌│╌▒▒▒▒▒▒╌╌╌╌  threshold
    0 ┤──────────┘  └─▒▒▒▒▒▒────
      0        frames           F
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count, pairwise

import numpy as np
from markupsafe import Markup

from ssrl.evaluate.metrics import Curve
from ssrl.evaluate.protocol import VideoScores

MAX_STEPS = 720  # per strip; beyond that, each column shows the lowest and highest score of several snippets
STRIP_HEIGHT = 1000  # in units of the drawing; a score of 1 is at 0
ABOVE = -35  # of the line over the ground truth, clear of a score of 1
MAX_TICKS = 7
SQUARE = 300  # side of a ROC or precision-recall plot


def draw_strip(video: VideoScores) -> Markup:
    """One video's scores over its ground truth; stretches to the width of its container."""
    frames, truth = video.num_frames, video.clipped_anomalies
    bands = "".join(
        f'<rect class="truth" x="{start}" y="0" width="{stop - start}" height="{STRIP_HEIGHT}"/>'
        f'<path class="truth-edge" d="M{start} {ABOVE}H{stop}"/>'
        for start, stop in truth
    )
    description = f"Anomaly scores; peak {video.highest_score:.2f}"
    if video.has_frame_labels:
        description += f"; anomalous intervals: {len(truth)}"
    return Markup(
        f'<svg class="strip" viewBox="0 0 {frames} {STRIP_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{description}">{bands}'
        f'<path class="threshold" d="M0 {STRIP_HEIGHT * (1 - video.threshold):g}H{frames}"/>'
        f'<path class="score" d="{_trace_steps(video)}"/></svg>'
    )


def _trace_steps(video: VideoScores) -> str:
    """The path of the scores, from the lower left corner to the lower right one."""
    starts, scores = merge_steps(video)
    heights = np.rint(STRIP_HEIGHT * (1 - scores)).astype(int)
    changes = np.append(True, heights[1:] != heights[:-1])
    starts, heights = starts[changes], heights[changes]
    stops = np.append(starts[1:], video.num_frames)
    steps = "".join(f"V{height}H{stop}" for height, stop in zip(heights, stops, strict=True))
    return f"M0 {STRIP_HEIGHT}{steps}V{STRIP_HEIGHT}"


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


def draw_curve(curve: Curve, name: str, x_name: str, y_name: str, chance: tuple[float, float]) -> Markup:
    """A curve in the unit square with axes; chance is a dashed line from `chance[0]` at x = 0 to `chance[1]` at 1."""
    left, top = 44, 10
    ticks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + tick * SQUARE, top + (1 - tick) * SQUARE
        ticks.append(f'<path class="grid" d="M{left} {y:g}h{SQUARE}M{x:g} {top}v{SQUARE}"/>')
        ticks.append(f'<text x="{left - 8}" y="{y + 4:g}" text-anchor="end">{tick:g}</text>')
        ticks.append(f'<text x="{x:g}" y="{top + SQUARE + 18}" text-anchor="middle">{tick:g}</text>')
    middle = top + SQUARE / 2
    points = zip(left + SQUARE * curve.x, top + SQUARE * (1 - curve.y), strict=True)
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    at_0, at_1 = (top + SQUARE * (1 - height) for height in chance)
    return Markup(
        f'<svg class="square" viewBox="0 0 {left + SQUARE + 14} {top + SQUARE + 44}" role="img" '
        f'aria-label="{name}">{"".join(ticks)}'
        f'<text x="{left + SQUARE / 2}" y="{top + SQUARE + 38}" text-anchor="middle">{x_name}</text>'
        f'<text transform="rotate(-90 10 {middle})" x="10" y="{middle}" text-anchor="middle">{y_name}</text>'
        f'<path class="threshold" d="M{left} {at_0:.1f}L{left + SQUARE} {at_1:.1f}"/>'
        f'<path class="line" d="M{line}"/></svg>'
    )
