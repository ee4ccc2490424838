"""When the frames of a video are shown: presentation times, which need not be evenly spaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from ssrl.extract.readers.packets import HIDING_CODECS


class FrameTimes:
    """Collects the times of decoded frames, and gives the frames that fill holes times in between."""

    def __init__(self, seconds_per_tick: float | None, seconds_per_frame: float) -> None:
        self._seconds_per_tick = seconds_per_tick
        self._seconds_per_frame = seconds_per_frame
        self._times: list[float] = []
        self._known = seconds_per_tick is not None

    def note(self, frame: Any | None, holes: int) -> None:
        """A frame came after so many holes; None: only holes came, at the end."""
        if frame is not None and frame.pts is None:
            self._known = False
        if self._seconds_per_tick is None or not self._known:
            return
        before = self._times[-1] if self._times else None
        if frame is None:
            start, step = before or 0.0, self._seconds_per_frame
        else:
            time = frame.pts * self._seconds_per_tick
            step = self._seconds_per_frame if before is None else (time - before) / (holes + 1)
            start = time - (holes + 1) * step
        self._times.extend(start + step * (i + 1) for i in range(holes + (frame is not None)))

    @property
    def seconds(self) -> np.ndarray | None:
        """(F,) from the first frame on; None if a frame has no time, or times go backward."""
        return to_seconds(np.array(self._times)) if self._known else None


def to_seconds(times: np.ndarray) -> np.ndarray | None:
    """Times (F,) from the first on; None if there are none, or they go backward."""
    if not len(times) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        return None
    seconds: np.ndarray = times - times[0]
    return seconds


def read_packet_times(path: Path) -> np.ndarray | None:
    """Read the times (F,) of a video file's frames from its packets, without decoding: most files have one packet per
    frame. None where that is known not to be so, or a packet has no time.
    """
    options = {"protocol_whitelist": "file"}
    try:
        with av.open(str(path), container_options=options, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None or stream.codec_context.name in HIDING_CODECS:
                return None
            times = [packet.pts for packet in _list_packets(container, stream)]
            if None in times or not stream.time_base:
                return None
            return to_seconds(np.sort(np.array(times, dtype=np.float64)) * float(stream.time_base))
    except (FFmpegError, OSError, ValueError, IndexError):
        return None


def _list_packets(container: Any, stream: Any) -> Iterator[Any]:
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
