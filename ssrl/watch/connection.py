"""One connection to a source: packets to the recorder, frames to snippets, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from ssrl.extract.readers.pyav_reader import upright
from ssrl.extract.snippets import resize
from ssrl.geometry import Geometry
from ssrl.watch.addresses import Address, SourceError, explain, opening
from ssrl.watch.clips import Coding, Packet, Recorder
from ssrl.watch.mailbox import Mailbox, Snippet

MAX_DAMAGED = 500  # packets in a row that do not decode


@dataclass(frozen=True)
class Frames:
    """How frames become snippets."""

    geometry: Geometry
    fps: float | None = None  # take so many frames per second; None: all
    realtime: bool = False  # read a file as fast as it would be shown
    timeout_seconds: float = 10.0


class Connection(threading.Thread):
    """Reads until the source ends, fails or is told to stop. A hung one is left behind: it ends by itself, or never."""

    def __init__(
        self, address: Address, frames: Frames, mailbox: Mailbox, recorder: Recorder, offset_seconds: float
    ) -> None:
        super().__init__(name="source", daemon=True)
        self._address = address
        self._frames = frames
        self._mailbox = mailbox
        self._recorder = recorder
        self._offset_seconds = offset_seconds  # of the first frame, in seconds of the stream

    def run(self) -> None:
        try:
            with opening(self._address, self._frames.timeout_seconds, self._mailbox.stop) as container:
                self._read(container)
            self._mailbox.end(None)
        except Exception as error:
            self._mailbox.end(explain(error))

    def _read(self, container: Any) -> None:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise SourceError("it has no video stream", lasting=True)
        stream.codec_context.thread_count = 1  # a frame comes out as soon as it is there
        is_list = container.format.name in ("hls", "dash")  # whose size is that of a list of parts
        if self._address.kind == "http" and (container.duration is not None if is_list else container.size > 0):
            self._mailbox.is_file, self._mailbox.lossless = True, not self._frames.realtime
        rate = stream.average_rate or stream.guessed_rate
        self._mailbox.rate = float(rate) if rate else None
        builder = SnippetBuilder(self._frames.geometry, 1 / (self._mailbox.rate or 25.0))
        for pixels, seconds in self._pace(self._sample(self._decode(container, stream))):
            self._mailbox.heard = time.monotonic()
            self._mailbox.is_open = True
            if (snippet := builder.add(pixels, seconds)) is not None:
                self._mailbox.put(snippet)
            if self._mailbox.stop.is_set():
                return
        if not self._mailbox.is_open:
            raise SourceError("not one of its frames can be decoded", lasting=True)
        if self._ends_as_file and (snippet := builder.finish()) is not None:
            self._mailbox.put(snippet)

    @property
    def _ends_as_file(self) -> bool:
        return not self._address.is_camera or self._mailbox.is_file

    def _decode(self, container: Any, stream: Any) -> Iterator[tuple[np.ndarray, float]]:
        """Each frame (h, w, 3), with its time in seconds of the stream."""
        clock = _Clock(stream.time_base, self._offset_seconds)
        coding, reformatter = Coding(stream), VideoReformatter()
        damaged, has_begun = 0, False
        for packet in self._demux(container, stream):
            if packet is not None:
                has_begun |= packet.is_keyframe
                if not has_begun:
                    continue  # a camera may be joined between two key frames
                content, seconds = bytes(packet), clock.tell(packet.pts)
                self._recorder.add(Packet(content, packet.pts, packet.dts, packet.is_keyframe, seconds, coding))
            try:
                frames = stream.decode(packet)
            except FFmpegError as error:
                damaged += 1
                if damaged > MAX_DAMAGED:
                    raise SourceError("its pictures do not decode any more") from error
                continue
            for frame in frames:
                damaged = 0
                yield upright(reformatter.reformat(frame, format="rgb24")), clock.tell(frame.pts)

    def _demux(self, container: Any, stream: Any) -> Iterator[Any]:
        """The packets, then None for the frames that the decoder still holds."""
        for packet in container.demux(stream):
            if self._mailbox.stop.is_set():
                return
            if packet.size:
                yield packet
        yield None

    def _sample(self, frames: Iterator[tuple[np.ndarray, float]]) -> Iterator[tuple[np.ndarray, float]]:
        """Leave out frames, evenly, down to the rate that was asked for."""
        step = 0.0 if self._frames.fps is None else 1 / self._frames.fps
        due: float | None = None
        for pixels, seconds in frames:
            self._mailbox.heard = time.monotonic()
            due = seconds if due is None else due
            if seconds >= due - step / 8:  # times jitter
                due = max(due, seconds - step) + step
                yield pixels, seconds

    def _pace(self, frames: Iterator[tuple[np.ndarray, float]]) -> Iterator[tuple[np.ndarray, float]]:
        """Under `realtime`, hold back each frame until it would be shown."""
        start: float | None = None
        for pixels, seconds in frames:
            if self._frames.realtime and not self._address.is_camera:
                start = time.monotonic() - seconds if start is None else start
                while (ahead := start + seconds - time.monotonic()) > 0 and not self._mailbox.stop.wait(min(ahead, 1)):
                    self._mailbox.heard = time.monotonic()
            yield pixels, seconds


class SnippetBuilder:
    """Collects resized frames."""

    def __init__(self, geometry: Geometry, frame_seconds: float) -> None:
        self._geometry = geometry
        self._frame_seconds = frame_seconds  # until a second frame tells
        self._filled = 0
        self._last = 0.0

    def add(self, pixels: np.ndarray, seconds: float) -> Snippet | None:
        """(h, w, 3) uint8, at `seconds` of the stream. Returns the snippet that this frame completes."""
        geometry = self._geometry
        if self._filled == 0:
            shape = (geometry.frames_per_snippet, geometry.height, geometry.width, 3)
            self._pixels = np.empty(shape, np.uint8)
            self._start, self._start_time = seconds, datetime.now(UTC)
        elif seconds > self._last:
            self._frame_seconds = seconds - self._last
        self._pixels[self._filled] = resize(pixels, geometry.height, geometry.width)
        self._filled += 1
        self._last = seconds
        return self._close() if self._filled == geometry.frames_per_snippet else None

    def finish(self) -> Snippet | None:
        """The last snippet of a file repeats its last frame."""
        if not self._filled:
            return None
        self._pixels[self._filled :] = self._pixels[self._filled - 1]
        return self._close()

    def _close(self) -> Snippet:
        end, filled, self._filled = self._last + self._frame_seconds, self._filled, 0
        now = datetime.now(UTC)
        return Snippet(self._pixels, self._start, end, self._start_time, now, time.monotonic(), filled)


class _Clock:
    """Seconds of the stream: by timestamps, from the first packet on; where there are none, by their arrival."""

    def __init__(self, tick: Any, offset_seconds: float) -> None:
        self._tick = float(tick) if tick else 0.0
        self._offset_seconds = offset_seconds
        self._first: float | None = None
        self._arrival = time.monotonic()

    def tell(self, pts: int | None) -> float:
        if pts is None or not self._tick:
            return self._offset_seconds + time.monotonic() - self._arrival
        self._first = pts * self._tick if self._first is None else self._first
        return self._offset_seconds + pts * self._tick - self._first
