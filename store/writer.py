"""Writing a store: one file per video, complete or absent."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from ssrl.config import StoreConfig
from ssrl.errors import UserError
from ssrl.files import TEMPORARY_MARK, replacing, write_json
from ssrl.plain import list_differences, to_plain
from ssrl.store.layout import (
    CONFIG_FILE,
    VIDEO_FOLDER,
    VIDEO_SUFFIX,
    StoredVideo,
    get_scale_name,
    get_video_path,
    read_config,
    to_attributes,
)

RESERVE_BYTES = 16 << 20  # left free on the disk: HDF5 cannot close a file that it cannot write to


class StoreWriter:
    """Opens the store at `root`, or creates it. Many writers on many hosts may share one store.

    Scales that the store does not have yet are added to its configuration, then to one video after another.
    Raises a UserError listing the differences if the folder holds features of another configuration.
    """

    def __init__(self, root: Path, config: StoreConfig) -> None:
        self.root = root
        stored = read_config(root) if (root / CONFIG_FILE).exists() else None
        if stored is not None:
            config = config.with_scales(tuple(sorted({*stored.scales, *config.scales})))
            require_same_config(root, config, stored.with_scales(config.scales))
        self.config = config
        if stored != config:
            write_json(root / CONFIG_FILE, to_plain(config))
        (root / VIDEO_FOLDER).mkdir(exist_ok=True)

    def has(self, video_id: str) -> bool:
        return not self.missing_scales(video_id)

    def missing_scales(self, video_id: str) -> tuple[int, ...]:
        """The scales still to be written: all, none, or those added to the store since."""
        path = get_video_path(self.root, video_id)
        if not path.is_file():
            return self.config.scales
        try:
            with h5py.File(path, "r", locking=False) as file:
                return tuple(scale for scale in self.config.scales if get_scale_name(scale) not in file)
        except OSError:
            return ()  # damaged: reading or verifying it will raise

    @contextmanager
    def video(self, video_id: str, scales: tuple[int, ...] | None = None) -> Iterator[VideoWriter]:
        """Write one video's file: `scales`, or all; other scales that it has are kept.

        The file gets its final name if the block succeeds and has called `finish`; otherwise it is removed.
        """
        path = get_video_path(self.root, video_id)
        with replacing(path) as temporary:
            with h5py.File(temporary, "w", libver=("v110", "v110")) as file:
                writer = VideoWriter(file, self.config, video_id, scales or self.config.scales)
                if path.is_file():
                    writer.keep_other_scales(path)
                yield writer
            if not writer.finished:
                raise RuntimeError(f"{video_id}: the block ended before finish()")

    def remove_leftovers(self) -> int:
        """Delete the temporary files of killed writers. Call it only while no other writer is running."""
        leftovers = list((self.root / VIDEO_FOLDER).rglob(f"*{VIDEO_SUFFIX}{TEMPORARY_MARK}*"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)


class VideoWriter:
    """Appends a video's snippets as they arrive, so memory use does not grow with its length."""

    def __init__(self, file: h5py.File, config: StoreConfig, video_id: str, scales: tuple[int, ...]) -> None:
        self.config = config
        self.video_id = video_id
        self.scales = scales
        self.finished = False
        self._file = file
        for scale in scales:
            _, num_patches, dim = config.shape(scale, 0)
            file.create_dataset(
                get_scale_name(scale),
                shape=(0, num_patches, dim),
                maxshape=(None, num_patches, dim),
                chunks=(1, num_patches, dim),
                dtype=config.dtype,
                fletcher32=True,
                track_times=False,
            )

    def keep_other_scales(self, path: Path) -> None:
        """Copy the scales that the video's existing file has and this one does not write."""
        with h5py.File(path, "r", locking=False) as existing:
            for scale in self.config.scales:
                if scale not in self.scales and get_scale_name(scale) in existing:
                    existing.copy(get_scale_name(scale), self._file)

    def append(self, features: Mapping[int, np.ndarray]) -> None:
        """Append snippets: one array (n, N_r, D) per scale, with the same n.

        Raises a UserError on NaN or overflow, and an OSError (ENOSPC) before the disk is full.
        """
        self._check_space(sum(array.nbytes for array in features.values()))
        for scale in self.scales:
            dataset, added = self._file[get_scale_name(scale)], features[scale]
            if added.shape[1:] != dataset.shape[1:]:
                raise ValueError(f"scale {scale} takes {dataset.shape[1:]} per snippet, not {added.shape[1:]}")
            with np.errstate(over="ignore"):
                stored = added.astype(self.config.dtype)
            if not np.isfinite(stored).all():
                raise UserError(
                    f"{self.video_id}: scale {scale} has features that are not finite as {self.config.dtype}; "
                    f"use --dtype float32, or check the encoder's weights or the imported file"
                )
            start = dataset.shape[0]
            dataset.resize(start + len(stored), axis=0)
            dataset[start:] = stored

    def _check_space(self, num_bytes: int) -> None:
        folder = Path(self._file.filename).parent
        if shutil.disk_usage(folder).free < num_bytes + RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    def finish(self, record: StoredVideo) -> None:
        """Write the attributes, `complete` last. All scales need equally many rows; snippets must match num_frames."""
        self._check_rows(record)
        attributes = self._file.attrs
        for name, value in to_attributes(record).items():
            attributes[name] = value
        attributes["configuration"] = self.config.fingerprint
        attributes["complete"] = True
        self.finished = True

    def _check_rows(self, record: StoredVideo) -> None:
        written = {name: len(dataset) for name, dataset in self._file.items()}
        count = next(iter(written.values()))
        if count == 0 or set(written.values()) != {count}:
            raise ValueError(f"{record.id}: all scales need the same number of rows, at least one, not {written}")
        expected = self.config.geometry.num_snippets(record.num_frames)
        if record.rows == "snippets" and count != expected:
            raise ValueError(f"{record.id}: {count} snippets, but {record.num_frames} frames make {expected}")


def require_same_config(root: Path, requested: StoreConfig, stored: StoreConfig) -> None:
    """Raise a UserError if the store at `root` has another configuration than `requested`."""
    different = list_differences(requested, stored)
    if different:
        raise UserError(
            f"{root} holds features of another configuration (requested, not stored): {'; '.join(different)}. "
            f"Use the stored settings, or another --out"
        )
