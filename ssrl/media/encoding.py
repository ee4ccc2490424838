"""Frames → H.264 in MP4, in a thread of its own, with the frames' own times.

    frames (H, W, 3) ── queue ──▶ BT.709 yuv420p ──▶ libx264 ──▶ file that a browser plays while it loads

PyAV's wheels ship libx264; other builds of FFmpeg may lack it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.reformatter import VideoReformatter

from ssrl.errors import UserError
from ssrl.files import replacing

CODEC = "libx264"
UNKNOWN_FPS = 25.0  # of frames without times
TICKS = 90_000  # per second
QUEUED_FRAMES = 8
KEY_FRAME_SECONDS = 2
OPTIONS = {"preset": "veryfast", "crf": "23", "threads": "1"}
BT709, LIMITED_RANGE = 1, 1  # FFmpeg's numbers, as browsers take them for granted


def can_encode() -> bool:
    """Whether this FFmpeg has libx264."""
    try:
        Codec(CODEC, "w")
    except UnknownCodecError:
        return False
    return True


def list_times(num_frames: int, seconds: np.ndarray | None) -> np.ndarray:
    """The times (F,) of frames in ticks, each after the one before; evenly spaced if none are known."""
    seconds = np.arange(num_frames) / UNKNOWN_FPS if seconds is None else seconds
    ticks = np.rint(seconds * TICKS).astype(np.int64)
    order = np.arange(len(ticks))
    increasing: np.ndarray = np.maximum.accumulate(ticks - order) + order
    return increasing


@contextmanager
def encode_video(path: Path, height: int, width: int, times: np.ndarray) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that takes the frames (height, width, 3) uint8 RGB, in order; sizes must be even.

    `times` are those of `list_times`. The file appears under its name once all frames are in it. Raises a UserError
    without libx264.
    """
    if not can_encode():
        raise UserError(f"{path.name} cannot be encoded: this build of PyAV has no {CODEC}; install PyAV's own wheel")
    with replacing(path) as temporary:
        writer = _Writer(temporary, height, width, times)
        try:
            yield writer.put
        finally:
            writer.stop()
        writer.check()


class _Writer:
    """Encodes what is put into its queue."""

    def __init__(self, path: Path, height: int, width: int, times: np.ndarray) -> None:
        self._path, self._size, self._times = path, (height, width), times
        self._queue: Queue[np.ndarray | None] = Queue(QUEUED_FRAMES)
        self._error: BaseException | None = None
        self._has_ended = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, frame: np.ndarray) -> None:
        self.check()
        self._queue.put(frame)

    def stop(self) -> None:
        """Encode what is in the queue, and close the file."""
        self._queue.put(None)
        self._thread.join()

    def check(self) -> None:
        """Raise what the thread raised."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._encode(self._take())
        except BaseException as error:
            self._error = error
            while not self._has_ended:  # whoever puts must not wait forever
                self._has_ended = self._queue.get() is None

    def _take(self) -> Iterator[np.ndarray]:
        """The frames, until None ends them."""
        while (frame := self._queue.get()) is not None:
            yield frame
        self._has_ended = True

    def _encode(self, frames: Iterator[np.ndarray]) -> None:
        reformatter = VideoReformatter()
        options = {"movflags": "+faststart"}
        with av.open(str(self._path), "w", format="mp4", container_options=options) as container:
            stream = _add_stream(container, self._size, self._times)
            for pixels, time in zip(frames, self._times.tolist(), strict=False):
                frame = reformatter.reformat(
                    av.VideoFrame.from_ndarray(pixels, format="rgb24"),
                    format="yuv420p",
                    dst_colorspace=BT709,
                    dst_color_range=LIMITED_RANGE,
                )
                frame.pts, frame.time_base = time, Fraction(1, TICKS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _add_stream(container: Any, size: tuple[int, int], times: np.ndarray) -> Any:
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else TICKS / UNKNOWN_FPS
    rate = Fraction(TICKS / step).limit_denominator(1001)
    key_frames = {"g": str(max(1, round(KEY_FRAME_SECONDS * TICKS / step)))}
    stream = container.add_stream(CODEC, rate=rate, options={**OPTIONS, **key_frames})
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    codec = stream.codec_context
    codec.time_base = Fraction(1, TICKS)
    codec.colorspace, codec.color_range = BT709, LIMITED_RANGE
    codec.color_primaries, codec.color_trc = BT709, BT709
    return stream
