"""How many frames are missing where a file breaks and goes on."""

from __future__ import annotations

from typing import Any

REACH_FRAMES = 16  # a decoder's reordering parts the sign of a break from the frames around it
MIN_SKIPPED_BYTES = 1024
MIN_STEADY_FRAMES = 8
MAX_FILLED_SECONDS = 60
MAX_UNTRACED_SECONDS = 1  # lost from MPEG-TS without a trace; longer ones are pauses of the recording
AVI_CHUNK_HEADER_BYTES = 8


class Breaks:
    """Tells how many frames were lost with a stretch of the file.

        times           0  40  80  | bytes that are no packets |  240  280
        missing before                                            3    0

    A leap in time alone is no break: recorders drop frames and pause. It counts as one if

    - something was damaged within the `REACH_FRAMES` frames before: an error of the demuxer or the decoder, a frame or
      packet marked as corrupt, or, in a file with one stream, bytes that belong to no packet. MPEG-TS needs no such
      sign for up to `MAX_UNTRACED_SECONDS`, since its packets get lost on the way without a trace;
    - the frames before came at a steady rate, `average_rate`, nine steps of ten;
    - it is at most `MAX_FILLED_SECONDS` long: beyond, the times themselves are taken as damaged.

    AVI holds no times. There the index tells, if the file has one, which frame lies where.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        rate = stream.average_rate
        self._ticks_per_frame = float(1 / (rate * stream.time_base)) if rate and stream.time_base else None
        self._max_steps = MAX_FILLED_SECONDS * (rate or 0)
        self._max_untraced_steps = MAX_UNTRACED_SECONDS * (rate or 0) if container.format.name == "mpegts" else 0
        self._is_only_stream = len(container.streams) == 1
        self._frames_since_sign = REACH_FRAMES + 1
        self._end_of_packet: int | None = None
        self._latest: int | None = None  # presentation time so far
        self._steady, self._unsteady = 0, 0
        entries = stream.index_entries if container.format.name == "avi" else ()
        self._number_at = {entry.pos + AVI_CHUNK_HEADER_BYTES: entry.timestamp for entry in entries}
        self._lost_by_index, self._told = 0, 0

    def note_damage(self) -> None:
        self._frames_since_sign = 0

    def look_at(self, packet: Any) -> None:
        """A packet was read."""
        if packet.is_corrupt or self._bytes_before(packet) > MIN_SKIPPED_BYTES:
            self.note_damage()
        number = self._number_at.get(packet.pos)
        if number is not None and packet.dts is not None:
            self._lost_by_index = max(self._lost_by_index, number - packet.dts)

    def missing_before(self, frame: Any, packets_between: int) -> int:
        """The number of frames, between the frame before and this one, of which not even a packet came."""
        if frame.is_corrupt:
            self.note_damage()
        self._frames_since_sign += 1
        if self._number_at:
            told, self._told = self._told, self._lost_by_index
            return self._told - told
        return max(0, self._steps_to(frame.pts) - 1 - packets_between)

    def _steps_to(self, time: int | None) -> int:
        """From the latest frame to this one, in frames; 1 where that is no break."""
        if time is None or self._ticks_per_frame is None:
            return 1
        before, self._latest = self._latest, time if self._latest is None else max(time, self._latest)
        steps = 1 if before is None else round((time - before) / self._ticks_per_frame)
        is_damaged = steps <= self._max_untraced_steps or self._frames_since_sign <= REACH_FRAMES
        is_steady = self._steady >= max(MIN_STEADY_FRAMES, 9 * self._unsteady)
        if steps > 1 and is_damaged and is_steady:
            return steps if steps <= self._max_steps else 1
        self._steady += steps == 1
        self._unsteady += steps != 1
        return 1

    def _bytes_before(self, packet: Any) -> int:
        """Those between the packet before and this one."""
        before, self._end_of_packet = self._end_of_packet, None
        if packet.pos is None or not self._is_only_stream:
            return 0
        self._end_of_packet = packet.pos + packet.size
        return 0 if before is None else packet.pos - before
