"""Delivery: each sink has a thread and a bounded queue, so that one that is away neither stops nor slows the watch.

put ──▶ queue ──▶ deliver ──▶ done
          ▲          │ SinkAway: 1 s, 2 s, 4 s ... 60 s, then the same notice again
          └──────────┘
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque

from ssrl.faults import describe_error
from ssrl.watch.notices import Notice
from ssrl.watch.sinks.base import Sink, SinkAway, SinkRefused

logger = logging.getLogger(__name__)
MAX_NOTICES = 1000
MAX_BYTES = 256 << 20  # of pictures and clips that wait
LONGEST_PAUSE = 60.0


class Delivery(threading.Thread):
    """Delivers notices to one sink, in order. Only the latest score is kept; it is not tried again."""

    def __init__(self, name: str, sink: Sink, max_notices: int = MAX_NOTICES, first_pause: float = 1.0) -> None:
        super().__init__(name=f"sink {name}", daemon=True)
        self.label = name  # without credentials
        self.kinds = sink.kinds
        self.dropped = 0
        self._sink = sink
        self._max_notices = max_notices
        self._first_pause = first_pause
        self._queue: deque[Notice] = deque()
        self._num_bytes = 0
        self._score: Notice | None = None
        self._changed = threading.Condition()
        self._is_closing = False
        self._give_up = threading.Event()

    def put(self, notice: Notice) -> None:
        """Never waits. What does not fit is dropped, and said."""
        if notice.kind not in self._sink.kinds:
            return
        with self._changed:
            if notice.kind == "score":
                self._score = notice
            elif len(self._queue) >= self._max_notices or self._num_bytes + notice.num_bytes > MAX_BYTES:
                self.dropped += 1
                logger.warning(f"{self.label}: its queue is full; dropped {notice.key} ({self.dropped} so far)")
            else:
                self._queue.append(notice)
                self._num_bytes += notice.num_bytes
            self._changed.notify()

    def finish(self, wait_seconds: float) -> int:
        """Deliver what is left, for so long at most. Returns how many notices were not delivered."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self.join(wait_seconds)
        self._give_up.set()
        self.join(1.0)
        with self._changed:
            return len(self._queue)

    def run(self) -> None:
        while not self._give_up.is_set():
            with self._changed:
                while not (self._queue or self._score or self._is_closing):
                    self._changed.wait()
                notice = self._queue[0] if self._queue else self._score
                if notice is None:
                    break
                if not self._queue:
                    self._score = None
            if notice.kind == "score":
                self._try_score(notice)
            elif self._deliver(notice):
                with self._changed:
                    self._queue.popleft()
                    self._num_bytes -= notice.num_bytes
        try:
            self._sink.close()
        except Exception as error:
            logger.warning(f"{self.label}: {describe_error(error)}")

    def _try_score(self, notice: Notice) -> None:
        try:
            self._sink.deliver(notice)
        except (SinkAway, SinkRefused):
            pass  # the next one comes at once
        except Exception as error:
            logger.warning(f"{self.label}: {describe_error(error)}")

    def _deliver(self, notice: Notice) -> bool:
        """Try until it is delivered or refused; False only when the watch ends first."""
        pause, since = self._first_pause, None
        while not self._give_up.is_set():
            try:
                self._sink.deliver(notice)
            except SinkAway as error:
                if since is None:
                    logger.warning(f"{self.label}: {error}; trying again until it is back")
                    since = time.monotonic()
            except SinkRefused as error:
                logger.warning(f"{self.label}: {error}; dropped {notice.key}")
                self.dropped += 1
                return True
            except Exception as error:  # of this notice alone
                logger.warning(f"{self.label}: {describe_error(error)}; dropped {notice.key}")
                self.dropped += 1
                return True
            else:
                if since is not None:
                    logger.info(f"{self.label}: it is back after {time.monotonic() - since:.0f} s")
                return True
            self._give_up.wait(pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, LONGEST_PAUSE)
        return False
