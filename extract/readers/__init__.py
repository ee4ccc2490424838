"""Video readers: one interface over files and folders, frames in order and one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ssrl.errors import UserError
from ssrl.extract.readers.decord_reader import DecordReader
from ssrl.extract.readers.errors import DecoderStopped, UnreadableVideo
from ssrl.extract.readers.frame_folder import FrameFolderReader
from ssrl.extract.readers.pyav_reader import PyAVReader

__all__ = ["AUTO", "BACKENDS", "DecoderStopped", "FrameReader", "UnreadableVideo", "open_reader"]


class FrameReader(Protocol):
    """One video, to be read once, from its start. Use it in a `with` block.

    `declared_frames` is what the container says and may lie: what counts is how many frames come. `substituted_frames`
    counts those that took the place of undecodable ones, or are known to be damaged, among the frames so far. `seconds`
    are the times of the frames so far, from the first one's on; None if the file does not tell.
    """

    @property
    def fps(self) -> float | None: ...
    @property
    def declared_frames(self) -> int | None: ...
    @property
    def substituted_frames(self) -> int: ...
    @property
    def seconds(self) -> np.ndarray | None: ...
    def frames(self) -> Iterator[np.ndarray]: ...  # (h, w, 3) uint8 RGB, in presentation order
    def close(self) -> None: ...
    def __enter__(self) -> FrameReader: ...
    def __exit__(self, *_: object) -> None: ...


AUTO = "auto"
BACKENDS: dict[str, Callable[[Path], FrameReader]] = {
    "decord": DecordReader,
    "pyav": PyAVReader,
    "frames": FrameFolderReader,
}


def open_reader(path: Path, backend: str = AUTO) -> FrameReader:
    """A reader of the video file or folder of frames `path`.

    `auto` takes `frames` for a folder and `pyav` for a file: PyAV reads faster than decord, more kinds of files, and
    reports the damage that decord hides. Raises `UnreadableVideo`, a `UserError`, naming the file, the reason and what
    to do; `decord` may raise `DecoderStopped` midway.
    """
    path = Path(path)
    if backend == AUTO:
        backend = "frames" if path.is_dir() else "pyav"
    if backend not in BACKENDS:
        raise UserError(f"there is no video backend {backend!r}; known are {AUTO}, {', '.join(BACKENDS)}")
    return BACKENDS[backend](path)
