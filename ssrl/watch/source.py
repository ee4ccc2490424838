"""A source as a sequence: snippets, and the loss and return of its connection.

open ──▶ snippet snippet snippet ─ Lost ─ (1 s, 2 s, 4 s ... 30 s) ─ Restored ─ snippet ...
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ssrl.errors import UserError
from ssrl.watch.addresses import Address, SourceError
from ssrl.watch.clips import Recorder
from ssrl.watch.connection import Connection, Frames
from ssrl.watch.mailbox import Mailbox, Snippet

CAPACITY = 1  # snippets that wait while one is scored: the delay is at most a snippet longer than the computation
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between attempts
REFUSED_PAUSE = 60.0  # after a wrong password: cameras lock out those who insist
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Lost:
    """The connection has ended; another is tried."""

    reason: str
    time: datetime


@dataclass(frozen=True)
class Restored:
    """Frames come again."""

    outage_seconds: float
    time: datetime


class Source:
    """Snippets of an address, over as many connections as it takes."""

    def __init__(self, address: Address, frames: Frames, recorder: Recorder, stop: threading.Event) -> None:
        self.address = address
        self._frames = frames
        self._recorder = recorder
        self._stop = stop
        self._dropped_before = 0
        self._start: float | None = None  # of the first frame, on the monotonic clock
        self._end_seconds = 0.0  # of the last snippet, in seconds of the stream
        self._mailbox = self._make_mailbox()

    @property
    def dropped_frames(self) -> int:
        return self._dropped_before + self._mailbox.dropped_frames

    @property
    def rate(self) -> float | None:
        """Frames per second, as the stream states them."""
        return self._mailbox.rate

    def watch(self) -> Iterator[Snippet | Lost | Restored]:
        """Until the end of a file, or `stop`. Raises a UserError if the first connection fails."""
        lost_since: float | None = None
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            for snippet in self._connect():
                if lost_since is not None:
                    yield Restored(time.monotonic() - lost_since, datetime.now(UTC))
                    lost_since, pause = None, FIRST_PAUSE
                if snippet is not None:
                    yield snippet
            error = self._mailbox.error
            if self._stop.is_set() or (error is None and self._ends_for_good):
                return
            reason = str(error) if error else "the camera has ended the stream"
            if self._start is None or (error and not self.address.is_camera):
                raise UserError(f"{self.address.url} cannot be watched: {reason}")
            if lost_since is None:
                lost_since = time.monotonic()
            yield Lost(reason, datetime.now(UTC))
            refused = isinstance(error, SourceError) and error.refused
            self._stop.wait(REFUSED_PAUSE if refused else pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def _ends_for_good(self) -> bool:
        return not self.address.is_camera or self._mailbox.is_file

    def _make_mailbox(self) -> Mailbox:
        lossless = not (self.address.is_camera or self._frames.realtime)
        return Mailbox(CAPACITY, lossless)

    def _connect(self) -> Iterator[Snippet | None]:
        """The snippets of one connection, after a None once its first frame is there."""
        self._dropped_before = self.dropped_frames
        self._mailbox = mailbox = self._make_mailbox()
        elapsed = 0.0 if self._start is None else time.monotonic() - self._start
        offset = max(elapsed, self._end_seconds)  # a camera may begin with seconds of the past, all at once
        connection = Connection(self.address, self._frames, mailbox, self._recorder, offset)
        connection.start()
        is_open = False
        try:
            while not mailbox.is_finished and not self._stop.is_set():
                snippet = mailbox.take(POLL_SECONDS)
                if mailbox.is_open and not is_open:
                    is_open = True
                    self._start = time.monotonic() if self._start is None else self._start
                    yield None
                if snippet is not None:
                    self._end_seconds = snippet.end_seconds
                    yield snippet
                elif self._is_silent(mailbox):
                    mailbox.end(SourceError(f"no picture for {self._frames.timeout_seconds:g} seconds"))
        finally:
            mailbox.stop.set()
            connection.join(1.0)
            self._recorder.end_clips()

    def _is_silent(self, mailbox: Mailbox) -> bool:
        limit = self._frames.timeout_seconds
        if self.address.kind == "growing file":
            limit += self.address.growth_seconds
        return time.monotonic() - mailbox.heard > limit * (1 if mailbox.is_open else 2)
