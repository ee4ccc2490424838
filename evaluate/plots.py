"""A video's score curve as a Matplotlib figure, for papers, slides and notebooks."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ssrl.evaluate.protocol import VideoScores

SCORE_COLOR = "#2f5fd0"
TRUTH_COLOR = "#e8742c"
THRESHOLD_COLOR = "#767b84"


def plot_scores(video: VideoScores) -> Figure:
    """Plot a video's scores over its shaded ground truth: frames below, seconds above if the frame rate is known."""
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for index, (start, stop) in enumerate(video.clipped_anomalies):
        axes.axvspan(start, stop, color=TRUTH_COLOR, alpha=0.22, lw=0, label="" if index else "ground truth")
    edges = video.frame_bounds
    axes.stairs(video.scores, edges, fill=True, color=SCORE_COLOR, alpha=0.12)
    axes.stairs(video.scores, edges, baseline=None, color=SCORE_COLOR, lw=1.5, label="score")
    axes.axhline(video.threshold, color=THRESHOLD_COLOR, lw=1, ls="--", label=f"threshold {video.threshold:.2g}")
    axes.set(xlim=(0, video.num_frames), ylim=(0, 1.02), xlabel="frame", ylabel="anomaly score")
    axes.spines[["top", "right"]].set_visible(False)
    if video.fps is not None:
        fps = video.fps
        to_seconds = (lambda frame: np.asarray(frame) / fps, lambda second: np.asarray(second) * fps)
        seconds = axes.secondary_xaxis("top", functions=to_seconds)
        seconds.set_xlabel("seconds")
        seconds.spines["top"].set_visible(False)
    title = f"{video.id} ({video.category})" if video.category else video.id
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    return figure
