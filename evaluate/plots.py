"""A video's score curve as a Matplotlib figure, for papers, slides and notebooks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.report import svg

SCORE_COLOR = "#2f5fd0"
TRUTH_COLOR = "#e8742c"
THRESHOLD_COLOR = "#767b84"
EVENT_COLOR = "#c2362b"
EVENT_BAND = 0.965  # events are marked above this share of the height


def plot_scores(video: VideoScores, events: Sequence[tuple[int, int]] = ()) -> Figure:
    """Plot a video's scores over its shaded ground truth: frames below, seconds above if times are known. Where the
    recording pauses there is a gap. `events`, as frames [start, stop), are marked along the top.
    """
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.add_subplot()
    axis = svg.Axis(video)
    truth = [span[1:] for interval in video.clipped_anomalies for span in axis.split(np.array(interval))]
    for index, (start, stop) in enumerate(truth):
        axes.axvspan(start, stop, color=TRUTH_COLOR, alpha=0.22, lw=0, label="" if index else "ground truth")
    marks = [span[1:] for event in events for span in axis.split(np.array(event))]
    for index, (start, stop) in enumerate(marks):
        axes.axvspan(start, stop, EVENT_BAND, 1, color=EVENT_COLOR, lw=0, label="" if index else "event")
    edges, scores = _trace(axis)
    axes.stairs(scores, edges, fill=True, color=SCORE_COLOR, alpha=0.12)
    axes.stairs(scores, edges, baseline=None, color=SCORE_COLOR, lw=1.5, label="score")
    axes.axhline(video.threshold, color=THRESHOLD_COLOR, lw=1, ls="--", label=f"threshold {video.threshold:.2g}")
    axes.set(xlim=(0, axis.width), ylim=(0, 1.02), xlabel="frame", ylabel="anomaly score")
    axes.spines[["top", "right"]].set_visible(False)
    if axis.knots:
        frames = svg.place_frame_ticks(video.num_frames)
        axes.set_xticks([axis.place(frame) for frame in frames], [f"{frame:,}" for frame in frames])
    if video.timeline is not None:
        step = video.timeline.step
        to_seconds = (lambda place: np.asarray(place) * step, lambda second: np.asarray(second) / step)
        seconds = axes.secondary_xaxis("top", functions=to_seconds)
        seconds.set_xlabel("seconds")
        seconds.spines["top"].set_visible(False)
    title = f"{video.id} ({video.category})" if video.category else video.id
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    figure.legend(loc="outside lower right", ncols=4, frameon=False, fontsize=9)
    return figure


def _trace(axis: svg.Axis) -> tuple[np.ndarray, np.ndarray]:
    """Edges (n + 1,) and scores (n,), NaN in a pause."""
    edges, scores = [0], []
    for row, start, stop in axis.split(axis.video.frame_bounds):
        if start != edges[-1]:
            edges.append(start)
            scores.append(np.nan)
        edges.append(stop)
        scores.append(axis.video.scores[row])
    return np.array(edges), np.array(scores)
