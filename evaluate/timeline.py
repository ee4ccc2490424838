"""Frames in time: when each is shown, and where the recording pauses.

frame     0   1   2                       3   4
seconds   0  .04 .08                     10  10.04 ── end
          └───────────┘░░░░░░ pause ░░░░░░└───────┘
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

PAUSE_STEPS, PAUSE_SECONDS = 10, 1.0  # a pause is longer than both so many usual steps and so long
UNKNOWN_FPS = 25  # of a single frame


class Pause(NamedTuple):
    """No frame is shown from `start` to `stop`, in seconds; `frame` is the first one after it."""

    frame: int
    start: float
    stop: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """The times of a video's frames."""

    starts: np.ndarray  # (F,) seconds at which each frame is first shown, from 0 on
    step: float  # seconds from one frame to the next, usually

    @classmethod
    def of(cls, num_frames: int, fps: float | None, seconds: np.ndarray | None) -> Timeline | None:
        """From timestamps (F,), or else from the frame rate; None if neither is known."""
        if seconds is None:
            return None if fps is None else cls(np.arange(num_frames) / fps, 1 / fps)
        steps = np.diff(seconds)
        usual = steps[steps <= _find_longest_step(steps)]
        return cls(seconds, float(usual.mean()) if usual.any() else 1 / (fps or UNKNOWN_FPS))

    @property
    def end(self) -> float:
        """Seconds at which the last frame is gone."""
        return float(self.starts[-1]) + self.step

    @cached_property
    def pauses(self) -> tuple[Pause, ...]:
        steps = np.diff(self.starts)
        waits = np.flatnonzero(steps > _find_longest_step(steps))
        return tuple(Pause(int(i) + 1, float(self.starts[i]) + self.step, float(self.starts[i + 1])) for i in waits)

    @property
    def recorded(self) -> float:
        """Seconds without the pauses."""
        return self.end - sum(pause.stop - pause.start for pause in self.pauses)

    @property
    def is_steady(self) -> bool:
        """Whether frames are evenly spaced, to half a step."""
        even = np.arange(len(self.starts)) * self.step
        return bool(np.abs(self.starts - even).max() < self.step / 2)

    def locate(self, frames: np.ndarray) -> np.ndarray:
        """Seconds at which frames begin; for F, the end."""
        located: np.ndarray = self._bounds[frames]
        return located

    @cached_property
    def _bounds(self) -> np.ndarray:
        """(F + 1,) seconds."""
        return np.append(self.starts, self.end)

    def split(self, bounds: np.ndarray) -> Iterator[tuple[int, float, float]]:
        """For bounds (n + 1,) of n runs of frames: the index of a run, and from when to when a part of it is shown,
        which ends at a pause or with the run.
        """
        resumes = {pause.frame: pause for pause in self.pauses}
        edges = np.unique(np.concatenate([bounds, [frame for frame in resumes if bounds[0] < frame < bounds[-1]]]))
        runs = np.searchsorted(bounds, edges[:-1], side="right") - 1
        for run, (start, stop) in zip(runs.tolist(), pairwise(edges.astype(int).tolist()), strict=True):
            until = resumes[stop].start if stop in resumes else float(self._bounds[stop])
            yield run, float(self.starts[start]), until


def _find_longest_step(steps: np.ndarray) -> float:
    """From one frame to the next without a pause."""
    return max(PAUSE_SECONDS, PAUSE_STEPS * float(np.median(steps))) if len(steps) else PAUSE_SECONDS
