"""The pixels of a scored video, snippet by snippet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np

from ssrl.evaluate.protocol import VideoScores
from ssrl.extract.readers import open_reader
from ssrl.extract.snippets import fill_snippets
from ssrl.geometry import Geometry


def read_snippets(video: VideoScores, geometry: Geometry) -> Iterator[np.ndarray | None]:
    """A video's snippets (L, H, W, 3) uint8, each valid until the next; None for each if the video is not at hand."""
    path = video.record.video.path
    if not path.exists() or not path.name:
        yield from repeat(None, len(video.scores))
        return
    slot = np.empty((geometry.frames_per_snippet, geometry.height, geometry.width, 3), np.uint8)
    with open_reader(path) as reader:
        for _ in fill_snippets(reader.frames(), geometry, repeat(slot)):
            yield slot
