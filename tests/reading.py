"""Reading the videos of `tests.media`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ssrl.extract.readers import open_reader
from tests.media import number_of

HAS_DECORD = importlib.util.find_spec("decord") is not None
needs_decord = pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this machine")


def read(path: Path, backend: str = "auto") -> list[np.ndarray]:
    return read_and_count(path, backend)[0]


def read_and_count(path: Path, backend: str = "auto") -> tuple[list[np.ndarray], int]:
    """All frames, and how many of them are known to be substitutes."""
    with open_reader(path, backend) as reader:
        return list(reader.frames()), reader.substituted_frames


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [number_of(frame) for frame in frames]
