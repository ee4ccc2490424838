"""Which packets of a video did not become frames."""

from __future__ import annotations

import heapq
from typing import Any

HIDING_CODECS = frozenset({"vp8", "vp9", "av1"})  # some of their packets hold pictures that are never shown


class OpenPackets:
    """Matches packets with frames by presentation time, and finds the holes in between.

        packets sent    0  3  1  2  6  4x 5       (in decoding order; 4 does not decode)
        frames          0  1  2  3  .  5  6
                                    ^ a hole before frame 5

    A packet whose decoding raised an error is a hole. One that vanished without an error is a hole as well, but only
    where the stream's times are those of its frames: not with codecs that hide pictures, not in interlaced video (two
    packets may make one frame), and not as long as the decoder may be holding the frame back (some containers, such as
    AVI, give the times of decoding, and frames seem to come out of order).
    """

    def __init__(self, codec: str) -> None:
        self._times_fit = codec not in HIDING_CODECS
        self._in_flight = 0  # packets sent that are neither frames nor holes yet
        self._open: list[int] = []  # presentation times, smallest first
        self._failed: set[int] = set()
        self._failed_without_time = 0
        self.passed_over = 0  # packets between the last frame and the one before it, holes or not

    def send(self, time: int | None) -> None:
        """A packet goes to the decoder."""
        self._in_flight += 1
        if time is None:
            self._times_fit = False
            return
        heapq.heappush(self._open, time)

    def fail(self, time: int | None) -> None:
        """The decoder refused the packet."""
        if time is None:
            self._failed_without_time += 1
        else:
            self._failed.add(time)

    def holes_before(self, frame: Any, reorder_depth: int) -> int:
        """The number of holes between the frame before and this one; the decoder holds back `reorder_depth` frames."""
        self._in_flight -= 1
        self._times_fit &= frame.pts in self._open and not frame.interlaced_frame
        return self._close_before(frame.pts, reorder_depth)

    def holes_at_end(self) -> int:
        """The number of holes after the last frame."""
        return self._close_before(None, 0)

    def _close_before(self, time: int | None, held_back: int) -> int:
        holes, self._failed_without_time = self._failed_without_time, 0
        self._in_flight -= holes
        self.passed_over = 0
        while self._open and (time is None or self._open[0] <= time):
            oldest = heapq.heappop(self._open)
            if oldest == time:
                break
            self.passed_over += 1
            if oldest in self._failed or (self._times_fit and self._in_flight > held_back):
                self._failed.discard(oldest)
                self._in_flight -= 1
                holes += 1
        return holes
