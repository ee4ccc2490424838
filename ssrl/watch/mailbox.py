"""From the thread that decodes to the one that scores: a bounded queue of snippets, and signs of life."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime

import numpy as np


@dataclass(frozen=True, eq=False)
class Snippet:
    """L consecutive frames. Times are those of the first frame, and of the last one's end, in seconds of the stream."""

    pixels: np.ndarray  # (L, H, W, 3) uint8
    start_seconds: float
    end_seconds: float
    start_time: datetime
    time: datetime  # when the last frame was there
    decoded: float  # the same on the monotonic clock
    num_frames: int  # fewer than L at the end of a file, which repeats its last frame


class Mailbox:
    """Holds at most `capacity` snippets. When it is full, the oldest gives way (`lossless`: the decoder waits)."""

    def __init__(self, capacity: int, lossless: bool) -> None:
        self.dropped_frames = 0
        self.heard = time.monotonic()  # of a frame, or of waiting for one with reason
        self.is_open = False  # whether a frame has come
        self.is_file = False  # whether it ends for good
        self.rate: float | None = None  # frames per second
        self.error: Exception | None = None
        self._has_ended = False
        self._capacity = capacity
        self.lossless = lossless
        self._snippets: deque[Snippet] = deque()
        self._changed = threading.Condition()
        self.stop = threading.Event()

    def put(self, snippet: Snippet) -> None:
        with self._changed:
            while self.lossless and len(self._snippets) >= self._capacity and not self.stop.is_set():
                self._changed.wait(0.2)
                self.heard = time.monotonic()
            if self.stop.is_set():
                return
            if len(self._snippets) >= self._capacity:
                self.dropped_frames += self._snippets.popleft().num_frames
            self._snippets.append(snippet)
            self._changed.notify_all()

    def end(self, error: Exception | None) -> None:
        """No more snippets come."""
        with self._changed:
            self._has_ended, self.error = True, error
            self._changed.notify_all()

    def take(self, wait_seconds: float) -> Snippet | None:
        with self._changed:
            if not self._snippets and not self._has_ended:
                self._changed.wait(wait_seconds)
            snippet = self._snippets.popleft() if self._snippets else None
            self._changed.notify_all()
            return snippet

    @property
    def is_finished(self) -> bool:
        """All snippets were taken, and no more come."""
        with self._changed:
            return self._has_ended and not self._snippets
