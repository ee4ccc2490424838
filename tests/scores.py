"""Scored videos for tests, from flat values."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssrl.evaluate.protocol import VideoScores
from ssrl.store.layout import VideoRecord

Intervals = tuple[tuple[int, int], ...]  # of frames, [start, stop)


def make_scores(
    video_id: str,
    label: int | None,
    category: str,
    num_frames: int,
    fps: float | None,
    scores: np.ndarray,
    length: int = 16,
    anomalies: Intervals | None = None,
    **facts: Any,
) -> VideoScores:
    """`length` is in frames per snippet."""
    record = VideoRecord(video_id, num_frames, label, "test", category, fps, anomalies=anomalies, **facts)
    return VideoScores(record, scores, length)
