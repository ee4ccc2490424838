"""How the scores of normal and of anomalous frames are distributed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.report.outcomes import count_frames

NUM_BINS = 50  # from 0 to 1


def count_scores(videos: Sequence[VideoScores]) -> dict[str, np.ndarray]:
    """Kind of frame → frames by score (NUM_BINS,); a bin includes its lower end, the last one both.

    The kinds are "normal" and "anomalous", or "all" for videos without labels. Abnormal videos without frame labels are
    left out, and so is a kind without frames.
    """
    counts = {kind: np.zeros(NUM_BINS, dtype=np.int64) for kind in ("normal", "anomalous", "all")}
    for video in videos:
        bins = np.minimum((video.scores.astype(np.float64) * NUM_BINS).astype(int), NUM_BINS - 1)
        if video.label is None:
            kinds = {"all": np.diff(video.frame_bounds)}
        elif video.has_frame_labels:
            kinds = dict(zip(("normal", "anomalous"), count_frames(video), strict=True))
        else:
            continue
        for kind, frames in kinds.items():
            np.add.at(counts[kind], bins, frames)
    return {kind: count for kind, count in counts.items() if count.any()}
