"""Writing a store: one file per video, complete or absent."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ssrl.config import StoreConfig
from ssrl.errors import UserError
from ssrl.faults import raise_if_of_system
from ssrl.files import TEMPORARY_MARK, replacing, write_json
from ssrl.plain import list_differences, to_plain
from ssrl.store.layout import (
    CONFIG_FILE,
    FILE_ATTRIBUTES,
    SECONDS,
    VIDEO_FOLDER,
    VIDEO_SUFFIX,
    StoredVideo,
    from_attributes,
    get_scale_name,
    get_video_path,
    read_config,
    to_attributes,
)
from ssrl.store.reader import Store
from ssrl.store.sources import Source

RESERVE_BYTES = 16 << 20  # left free on the disk: HDF5 cannot close a file that it cannot write to


@dataclass(frozen=True)
class Plan:
    """What is to be done for one video."""

    scales: tuple[int, ...]  # to be written
    record: StoredVideo | None = None  # the new one of a video that is kept
    changes: tuple[str, ...] = ()  # why it is written anew, or what of its record changes


def describe_changes(old: StoredVideo, new: StoredVideo) -> tuple[str, ...]:
    """Describe what the annotations say otherwise than before."""
    changes = []
    for name, title in {"label": "label", "split": "split", "category": "class"}.items():
        before, after = getattr(old.video, name), getattr(new.video, name)
        if before != after:
            changes.append(f"{title} {before!r} → {after!r}")
    if old.num_frames != new.num_frames:
        changes.append(f"frames {old.num_frames} → {new.num_frames}")
    if old.rows != new.rows:
        changes.append(f"rows {old.rows} → {new.rows}")
    if old.video.anomalies != new.video.anomalies:
        before, after = (_describe_anomalies(video.video.anomalies) for video in (old, new))
        changes.append(f"anomalous frames {before} → {after}")
    if old.video.path != new.video.path:
        changes.append(f"path {old.video.path} → {new.video.path}")
    return tuple(changes)


def _describe_anomalies(anomalies: tuple[tuple[int, int], ...] | None) -> str:
    """As in tables: from 1, both ends included."""
    if anomalies is None:
        return "unknown"
    return ", ".join(f"{start + 1}-{stop}" for start, stop in anomalies) or "none"


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

    def plan(self, video_id: str, source: Source, update: Callable[[StoredVideo], StoredVideo]) -> Plan:
        """Compare a stored video with its source, and with its record as `update` makes it from today's annotations."""
        path = get_video_path(self.root, video_id)
        if not path.is_file():
            return Plan(self.config.scales)
        stored = self._read_record(path)
        if stored is None:
            return Plan(self.config.scales, changes=("its file in the store is damaged or unfinished",))
        if not source.made(stored):
            return Plan(self.config.scales, changes=("its source has changed",))
        record = source.record(update(stored))
        with h5py.File(path, "r", locking=False) as file:
            missing = tuple(scale for scale in self.config.scales if get_scale_name(scale) not in file)
        return Plan(missing, None if record == stored else record, describe_changes(stored, record))

    def _read_record(self, path: Path) -> StoredVideo | None:
        """None if the file is damaged, unfinished or of another configuration."""
        try:
            with h5py.File(path, "r", locking=False) as file:
                attributes = dict(file.attrs)
        except OSError as error:
            raise_if_of_system(error, path)
            return None
        except KeyError:
            return None
        if not attributes.pop("complete", False) or attributes.pop("configuration", "") != self.config.fingerprint:
            return None
        return from_attributes(attributes, path)

    def read_seconds(self, video_id: str) -> np.ndarray | None:
        """The times (num_frames,) of a stored video's frames, if known."""
        with h5py.File(get_video_path(self.root, video_id), "r", locking=False) as file:
            return np.asarray(file[SECONDS][:]) if SECONDS in file else None

    def add_seconds(self, record: StoredVideo, seconds: np.ndarray) -> None:
        """Add the times (num_frames,) of the frames to a stored video that an earlier version wrote without."""
        path = get_video_path(self.root, record.id)
        with replacing(path) as temporary:
            shutil.copyfile(path, temporary)
            with h5py.File(temporary, "r+", libver=("v110", "v110")) as file:
                _write_seconds(file, seconds)

    def update(self, record: StoredVideo) -> None:
        """Replace the record of a stored video; its features stay."""
        path = get_video_path(self.root, record.id)
        with replacing(path) as temporary:
            shutil.copyfile(path, temporary)
            with h5py.File(temporary, "r+", libver=("v110", "v110")) as file:
                for name in [name for name in file.attrs if name not in FILE_ATTRIBUTES]:
                    del file.attrs[name]
                for name, value in to_attributes(record).items():
                    file.attrs[name] = value

    @contextmanager
    def video(self, video_id: str, scales: tuple[int, ...] | None = None) -> Iterator[VideoWriter]:
        """Write one video's file: `scales`, or all; other scales that it has are kept.

        The file gets its final name if the block succeeds and has called `finish`; otherwise it is removed.
        """
        path = get_video_path(self.root, video_id)
        with replacing(path) as temporary:
            with h5py.File(temporary, "w", libver=("v110", "v110")) as file:
                writer = VideoWriter(file, self.config, video_id, scales or self.config.scales)
                if set(writer.scales) != set(self.config.scales):
                    writer.keep_other_scales(path)
                yield writer
            if not writer.finished:
                raise RuntimeError(f"{video_id}: the block ended before finish()")

    def prune(self) -> list[str]:
        """Delete the videos that no table names any more; return their ids."""
        unnamed = Store(self.root).unnamed_ids()
        for video_id in unnamed:
            get_video_path(self.root, video_id).unlink(missing_ok=True)
        return unnamed

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
                if np.isfinite(added).all():
                    reason = f"are not finite as {self.config.dtype}; use --dtype float32, or smaller features"
                else:
                    reason = "are not finite (NaN or infinite); check the encoder's weights or the imported file"
                raise UserError(f"scale {scale} has features that {reason}")
            start = dataset.shape[0]
            dataset.resize(start + len(stored), axis=0)
            dataset[start:] = stored

    def _check_space(self, num_bytes: int) -> None:
        folder = Path(self._file.filename).parent
        if shutil.disk_usage(folder).free < num_bytes + RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    def finish(self, record: StoredVideo, seconds: np.ndarray | None = None) -> None:
        """Write the times (num_frames,) of the frames, if known, and the attributes, `complete` last. All scales need
        equally many rows; snippets must match num_frames.
        """
        self._check_rows(record)
        if seconds is not None:
            if len(seconds) != record.num_frames:
                raise ValueError(f"{record.id}: {len(seconds)} times for {record.num_frames} frames")
            _write_seconds(self._file, seconds)
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


def _write_seconds(file: h5py.File, seconds: np.ndarray) -> None:
    compressed = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}
    file.create_dataset(SECONDS, data=seconds, track_times=False, **compressed)


def require_same_config(root: Path, requested: StoreConfig, stored: StoreConfig) -> None:
    """Raise a UserError if the store at `root` has another configuration than `requested`."""
    different = list_differences(requested, stored)
    if different:
        raise UserError(
            f"{root} holds features of another configuration (requested, not stored): {'; '.join(different)}. "
            f"Use the stored settings, or another --out"
        )
