"""The training view: every video as 32 segments (Sect. 4.2), pooled once and then memory-mapped.

Segment i of a video of T snippets is the mean of its snippets [b_i, b_i+1) with b = floor(linspace(0, T, 33)),
or the single snippet b_i where that span is empty (T < 32). This is the pooling of RTFM and of Sultani et al.

    T = 5, 8 segments    b = 0 0 1 1 2 3 3 4 5      segments  0 0 1 1 2 3 3 4

A video whose rows are already 32 segments (imported ones may be) pools to itself.

One HDF5 file: scale1 (videos, 32, C, D), scale2 (videos, 32, 6, D), ..., contiguous, with a hash of the
store's configuration and files. A view that no longer matches its store is rebuilt.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from ssrl.cache import get_cache_folder, keep_within_limit, mark_used
from ssrl.errors import UserError
from ssrl.files import replacing
from ssrl.geometry import PAPER_SEGMENTS
from ssrl.store.layout import get_scale_name, get_video_path
from ssrl.store.reader import Store

logger = logging.getLogger(__name__)
READ_SNIPPETS = 256  # of a long video, in memory at a time


def compute_segment_bounds(num_snippets: int, num_segments: int) -> np.ndarray:
    """(num_segments + 1,) snippet indices b_0 .. b_S."""
    if num_snippets < 1:
        raise UserError("a video without snippets has no segments")
    return np.linspace(0, num_snippets, num_segments + 1).astype(np.int64)


def pool_segments(features: np.ndarray, num_segments: int) -> np.ndarray:
    """(T, N, D) → (num_segments, N, D) float32."""
    return _pool(lambda start, stop: features[start:stop], len(features), num_segments)


def _pool(read: Callable[[int, int], np.ndarray], num_snippets: int, num_segments: int) -> np.ndarray:
    bounds = compute_segment_bounds(num_snippets, num_segments)
    return np.stack([_average(read, start, max(start + 1, stop)) for start, stop in pairwise(bounds)])


def _average(read: Callable[[int, int], np.ndarray], start: int, stop: int) -> np.ndarray:
    total: np.ndarray | None = None
    for first in range(start, stop, READ_SNIPPETS):
        part = read(first, min(first + READ_SNIPPETS, stop)).astype(np.float32).sum(axis=0)
        total = part if total is None else total + part
    assert total is not None
    return total / np.float32(stop - start)


def measure_segment_length(store: Store, num_segments: int = PAPER_SEGMENTS) -> float:
    """How many snippets a segment of a typical training video (the median) is made of, at least 1. Where training
    videos were sampled, their segments are single snippets.
    """
    if store.config.train_sampling == "segments":
        return 1.0
    lengths = [
        store.num_rows(record.id)
        if record.rows == "snippets"
        else store.config.geometry.num_snippets(record.num_frames)
        for record in store.records("train")
    ]
    return max(1.0, float(np.median(lengths)) / num_segments) if lengths else 1.0


@dataclass(frozen=True)
class SegmentView:
    """The pooled features of all videos of a store, memory-mapped. `ids[i]` is the video at index i of each array."""

    path: Path
    ids: tuple[str, ...]
    scales: dict[int, np.ndarray]  # scale → (videos, num_segments, N_r, D)


def open_segment_view(
    store: Store, num_segments: int = PAPER_SEGMENTS, on_video: Callable[[str], None] | None = None
) -> SegmentView:
    """Open the view of `store`, building it first if it is missing or outdated."""
    ids = store.ids()
    if not ids:
        raise UserError(f"{store.root} has no videos; extract some with ssrl-extract")
    state = _hash_state(store, ids)
    places = [place / f"segments-{num_segments}.h5" for place in (store.root, _get_view_folder(store))]
    path = next((path for path in places if _read_state(path) == state), None)
    if path is None:
        path = _build_where_possible(places, lambda path: _build(path, store, ids, num_segments, state, on_video))
    if path.is_relative_to(get_cache_folder()):
        mark_used(path)
    return SegmentView(path, tuple(ids), _map(path, store.config.scales))


def _get_view_folder(store: Store) -> Path:
    """Where the view of a store that cannot be written to is kept."""
    name = hashlib.sha256(os.fsencode(store.root.resolve())).hexdigest()[:16]
    return get_cache_folder() / "views" / name


def _build_where_possible(places: Sequence[Path], build: Callable[[Path], None]) -> Path:
    beside, elsewhere = places
    try:
        build(beside)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        logger.info(f"{beside.parent} cannot be written to ({error.strerror}); its training view is {elsewhere}")
        build(elsewhere)
        keep_within_limit()
        return elsewhere
    return beside


def _build(
    path: Path, store: Store, ids: list[str], num_segments: int, state: str, on_video: Callable[[str], None] | None
) -> None:
    with replacing(path) as temporary, h5py.File(temporary, "w", libver=("v110", "v110")) as file:
        arrays = {}
        for scale in store.config.scales:
            _, num_patches, dim = store.config.shape(scale, 0)
            shape = (len(ids), num_segments, num_patches, dim)
            name, dtype = get_scale_name(scale), store.config.dtype
            arrays[scale] = file.create_dataset(name, shape, dtype=dtype, track_times=False)
        for index, video_id in enumerate(ids):
            with store.open_video(video_id, store.config.scales) as (features, _):
                for scale, array in arrays.items():
                    rows = features[scale]
                    pooled = _pool(lambda start, stop, rows=rows: rows[start:stop], len(rows), num_segments)  # type: ignore[misc]
                    if not np.isfinite(pooled).all():
                        raise UserError(
                            f"the features of {video_id} at scale {scale} hold NaN or infinite values; "
                            f"delete {get_video_path(store.root, video_id)} and extract or import the video again"
                        )
                    array[index] = pooled
            if on_video is not None:
                on_video(video_id)
        file.attrs["state"] = state


def _map(path: Path, scales: tuple[int, ...]) -> dict[int, np.ndarray]:
    with h5py.File(path, "r", locking=False) as file:
        arrays = {scale: file[get_scale_name(scale)] for scale in scales}
        return {
            scale: np.memmap(path, dtype=array.dtype, mode="r", offset=array.id.get_offset(), shape=array.shape)
            for scale, array in arrays.items()
        }


def _hash_state(store: Store, ids: list[str]) -> str:
    """Hash what the view is made from: configuration, ids, and each file's size and modification time."""
    digest = hashlib.sha256(store.config.fingerprint.encode())
    for video_id in ids:
        status = get_video_path(store.root, video_id).stat()
        digest.update(f"{video_id}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _read_state(path: Path) -> str | None:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs.get("state"))
    except OSError:
        return None
