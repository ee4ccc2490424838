"""Checking a store: does every file hold what it says, byte for byte?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssrl.errors import UserError
from ssrl.store.reader import Store


@dataclass(frozen=True)
class Finding:
    """What `verify` found for one video: `problem` is empty where all is well."""

    video_id: str
    problem: str


def verify(store: Store) -> Iterator[Finding]:
    """Read every feature of every video (HDF5 checks each chunk's Fletcher-32 sum) and compare shapes."""
    for video_id in store.ids():
        yield Finding(video_id, _problem(store, video_id))


def _problem(store: Store, video_id: str) -> str:
    try:
        record = store.record(video_id)
        if record.id != video_id:
            return f"holds the video {record.id!r}; delete it and extract again"
        snippets = record.rows == "snippets"
        num_rows = store.config.geometry.num_snippets(record.num_frames) if snippets else store.num_rows(video_id)
        for scale in store.config.scales:
            features = store.features(video_id, scale)
            if features.shape != store.config.shape(scale, num_rows):
                wanted = store.config.shape(scale, num_rows)
                return f"scale {scale} has the shape {features.shape} instead of {wanted}; delete it and extract again"
            if not np.isfinite(features).all():
                return f"scale {scale} holds values that are not finite; delete it and extract again"
    except UserError as error:
        return str(error)
    return ""
