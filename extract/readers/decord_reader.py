"""Video files through decord, for those who need its very frames; `PyAVReader` is the better choice.

What decord 0.6 was seen to do, and what this reader does about it:

- Where a packet does not decode, or a stream does not begin where decord thinks (intact MPEG-TS with B-frames loses
  its first group of pictures), it moves all later frames forward and repeats the last, without a word. `fault_tol`
  makes the first such repetition an error: `DecoderStopped`, and the frames so far are not to be relied on.
- Frames that the decoder itself patches up are not reported. `PyAVReader` reports them.
- DECORD_EOF_RETRY_MAX counts the polls for the last frames, not damaged frames: at 256, intact 480x856 H.264 fails. It
  is left at its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ssrl.extract.readers.errors import DecoderStopped, UnreadableVideo
from ssrl.extract.readers.pyav_reader import PyAVReader
from ssrl.extract.readers.times import to_seconds

CHUNK_FRAMES = 16
NO_REPETITION = 1e-9  # a share of the frames; decord takes 0 for "any number"


class DecordReader:
    """Reads one video file in presentation order, `CHUNK_FRAMES` at a time."""

    substituted_frames = 0  # a known substitute is an error here

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with PyAVReader(self.path) as facts:  # names what is wrong with a file better than decord, and prints nothing
            self.fps = facts.fps
            self.declared_frames = facts.declared_frames
        self._reader: Any = _open(self.path)
        self._times: list[float] = []

    def __enter__(self) -> DecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader = None

    @property
    def seconds(self) -> np.ndarray | None:
        """Of the frames so far."""
        return to_seconds(np.array(self._times))

    def frames(self) -> Iterator[np.ndarray]:
        """(h, w, 3) uint8 RGB, one by one. Raises `DecoderStopped` at the first frame that does not decode."""
        total = len(self._reader)
        for start in range(0, total, CHUNK_FRAMES):
            indices = range(start, min(start + CHUNK_FRAMES, total))
            try:
                chunk = self._reader.get_batch(indices).asnumpy()
                self._times.extend(self._reader.get_frame_timestamp(indices)[:, 0])
            except Exception as error:  # decord raises DECORDError, RuntimeError or IndexError
                raise _stopped(self.path, f"after frame {start} of {total}", error) from error
            yield from chunk


def _open(path: Path) -> Any:
    try:
        import torch  # noqa: F401  (first: decord loaded before torch is known to crash)
        from decord import VideoReader, logging
    except ImportError as error:
        raise UnreadableVideo("decord is not installed (wheels: x86-64 alone); use the backend 'pyav'") from error
    logging.set_level(logging.QUIET)
    try:
        reader = VideoReader(str(path), num_threads=1, fault_tol=NO_REPETITION)
        starts_with_key_frame = 0 in reader.get_key_indices()
    except Exception as error:
        raise _stopped(path, "at its start", error) from error
    if not starts_with_key_frame:
        raise DecoderStopped(f"{path} begins without a key frame, which decord cannot read; use the backend 'pyav'")
    return reader


def _stopped(path: Path, place: str, error: Exception) -> DecoderStopped:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DecoderStopped(f"{path}: decord stopped {place} ({reason}); use the backend 'pyav', which bears damage")
