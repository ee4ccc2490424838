"""A video's annotations, placed on the frames that it turned out to have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ssrl.datasets.video import Intervals, Video
from ssrl.errors import UserError

UNKNOWN_FPS = 25  # of a single frame


def annotate(video: Video, num_frames: int, seconds: np.ndarray | None = None) -> tuple[Video, tuple[str, ...]]:
    """The video as it is stored, and what is wrong with its anomalous intervals. Those in seconds are placed by the
    times (F,) of the frames. What lies beyond the last frame is cut; an abnormal video without any left has unknown
    frames.

    Raises a UserError if the annotations are for another number of frames, or need times that are not known.
    """
    if video.num_frames is not None and video.num_frames != num_frames:
        raise UserError(
            f"{video.path} has {num_frames} frames, but its annotations are for {video.num_frames}; "
            f"correct the annotations, or replace the damaged video"
        )
    anomalies, end = video.anomalies, f"its {num_frames} frames"
    names = [f"the anomalous frames {start + 1} to {stop}" for start, stop in anomalies or ()]
    if video.anomalous_seconds is not None:
        if seconds is None:
            raise UserError(
                f"{video.path} does not tell the times of its frames, so anomalous intervals in seconds cannot be "
                f"placed; give them in frames, as first_frame,last_frame"
            )
        anomalies, end = _place(video.anomalous_seconds, seconds), f"its last frame, at {seconds[-1]:.2f} s"
        names = [f"the anomalous seconds {first:g} to {last:g}" for first, last in video.anomalous_seconds]
    kept, problems = [], []
    for (start, stop), name in zip(anomalies or (), names, strict=True):
        if start >= stop:
            problems.append(f"{name} lie within a pause, where no frame is shown: left out")
            continue
        if start < num_frames:
            kept.append((start, min(stop, num_frames)))
        if stop > num_frames:
            problems.append(f"{name} go beyond {end}: {'cut there' if start < num_frames else 'left out'}")
    if problems and not kept:
        problems.append("without these its anomalous frames are unknown")
    placed = None if anomalies is None or (problems and not kept) else tuple(kept)
    annotated = replace(video, path=video.path.resolve(), num_frames=None, anomalies=placed, anomalous_seconds=None)
    return annotated, tuple(problems)


def _place(intervals: tuple[tuple[float, float], ...], seconds: np.ndarray) -> Intervals:
    """From seconds to frames [start, stop): those that are shown at some time of an interval; in a pause, none is."""
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    step = step or 1 / UNKNOWN_FPS
    placed = []
    for first, last in intervals:
        start, stop = np.searchsorted(seconds + step, first, side="right"), np.searchsorted(seconds, last, side="left")
        beyond = [max(0, int((second - seconds[-1]) / step)) for second in (first, last)]  # frames, if it went on
        placed.append((int(start) + max(0, beyond[0] - 1), int(stop) + beyond[1]))
    return tuple(placed)
