"""Verifying a store: does every file hold what it claims, byte for byte?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssrl.errors import UserError
from ssrl.store.reader import Store


@dataclass(frozen=True)
class Finding:
    """The result for one video: `problem` is empty if there is none."""

    video_id: str
    problem: str


def verify(store: Store) -> Iterator[Finding]:
    """Read every feature of every video (HDF5 verifies each chunk's Fletcher-32 checksum) and check its shape."""
    for video_id in store.ids():
        yield Finding(video_id, _find_problem(store, video_id))


def _find_problem(store: Store, video_id: str) -> str:
    try:
        record = store.record(video_id)
        if record.id != video_id:
            return f"holds video {record.id!r}; delete it and extract again"
        snippets = record.rows == "snippets"
        num_rows = store.config.geometry.num_snippets(record.num_frames) if snippets else store.num_rows(video_id)
        for scale in store.config.scales:
            features = store.features(video_id, scale)
            if features.shape != store.config.shape(scale, num_rows):
                expected = store.config.shape(scale, num_rows)
                return f"scale {scale} has shape {features.shape}, not {expected}; delete it and extract again"
            if not np.isfinite(features).all():
                return f"scale {scale} has non-finite values; delete it and extract again"
    except UserError as error:
        return str(error)
    return ""
