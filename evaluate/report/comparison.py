"""A second run on the same videos, shown beside the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssrl.evaluate.metrics import Evaluation
from ssrl.evaluate.protocol import VideoScores

COMPARED = ("auc", "ap", "pr_auc", "auc_abnormal", "video_auc", "far")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The other run's metrics and scores, in the order of the first run's videos, and what to call either."""

    name: str
    other_name: str
    evaluation: Evaluation
    videos: Sequence[VideoScores]


def subtract_metrics(one: Evaluation, other: Evaluation) -> dict[str, float | None]:
    """`one`'s metrics less those of `other`; None where either is undefined."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in COMPARED}
    return {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}


def measure_change(one: VideoScores, other: VideoScores) -> float:
    """The mean over frames of the absolute difference of two runs' scores of a video, in 0..1."""
    difference = np.abs(one.scores.astype(np.float64) - other.scores)
    return float(np.average(difference, weights=np.diff(one.frame_bounds)))
