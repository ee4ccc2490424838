"""Figures for papers, slides and folders of results; the file's suffix decides: PNG, SVG or PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssrl.errors import UserError
from ssrl.evaluate.metrics import THRESHOLD, Evaluation
from ssrl.evaluate.protocol import VideoScores
from ssrl.files import replacing

SCORE_COLOUR = "#2f5fd0"
TRUTH_COLOUR = "#e8742c"
QUIET_COLOUR = "#767b84"
SUFFIXES = (".png", ".svg", ".pdf")


def score_figure(video: VideoScores) -> Figure:
    """One video's scores over its shaded ground truth: frames below, seconds above where the rate is known."""
    figure = _figure(9, 3.1)
    axes = figure.add_subplot()
    for index, (start, stop) in enumerate(video.clipped_anomalies):
        axes.axvspan(start, stop, color=TRUTH_COLOUR, alpha=0.22, lw=0, label="" if index else "ground truth")
    edges = video.frame_bounds
    axes.stairs(video.scores, edges, fill=True, color=SCORE_COLOUR, alpha=0.12)
    axes.stairs(video.scores, edges, baseline=None, color=SCORE_COLOUR, lw=1.5, label="score")
    axes.axhline(THRESHOLD, color=QUIET_COLOUR, lw=1, ls="--", label=f"threshold {THRESHOLD:g}")
    axes.set(xlim=(0, video.num_frames), ylim=(0, 1.02), xlabel="frame", ylabel="anomaly score")
    if video.fps is not None:
        fps = video.fps
        to_seconds = (lambda frame: np.asarray(frame) / fps, lambda second: np.asarray(second) * fps)
        seconds = axes.secondary_xaxis("top", functions=to_seconds)
        seconds.set_xlabel("seconds")
        seconds.spines["top"].set_visible(False)
    title = f"{video.id} ({video.category})" if video.category else video.id
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    _strip_frame(axes)
    return figure


def roc_figure(evaluation: Evaluation) -> Figure:
    """The frame-level ROC. Raises UserError where it is not defined."""
    if evaluation.roc is None:
        raise UserError(f"there is no ROC to draw: {evaluation.undefined['auc']}")
    figure = _figure(4.4, 4.4)
    axes = figure.add_subplot()
    axes.plot(evaluation.roc.x, evaluation.roc.y, color=SCORE_COLOUR, label=f"AUC {evaluation.auc:.4f}")
    axes.plot([0, 1], [0, 1], color=QUIET_COLOUR, lw=1, ls="--", label="chance 0.5")
    _unit_square(axes, "false-positive rate", "true-positive rate", "lower right")
    return figure


def precision_recall_figure(evaluation: Evaluation) -> Figure:
    """The frame-level precision-recall curve. Raises UserError where it is not defined."""
    if evaluation.precision_recall is None:
        raise UserError(f"there is no precision-recall curve to draw: {evaluation.undefined['ap']}")
    chance = evaluation.num_anomalous_frames / evaluation.num_frames
    figure = _figure(4.4, 4.4)
    axes = figure.add_subplot()
    curve = evaluation.precision_recall
    axes.plot(curve.x, curve.y, color=SCORE_COLOUR, label=f"AP {evaluation.ap:.4f}")
    axes.axhline(chance, color=QUIET_COLOUR, lw=1, ls="--", label=f"chance {chance:.4f}")
    _unit_square(axes, "recall", "precision", "best")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, whole or not at all."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"a figure is written as {', '.join(SUFFIXES)}, not {path.name!r}; choose one of these")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)


def _figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _unit_square(axes: Axes, x_name: str, y_name: str, legend: Literal["lower right", "best"]) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel=x_name, ylabel=y_name, aspect="equal")
    axes.grid(color="#dddddd", lw=0.6)
    axes.legend(loc=legend, frameon=False)
    _strip_frame(axes)


def _strip_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
