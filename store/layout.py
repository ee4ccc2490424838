"""The patch-feature store: files on disk, and the record of each video.

    features/<name>/
      store.json            StoreConfig
      videos/<video id>.h5  scale1 (T, C, D) · scale2 (T, 6, D) · ...   attributes: StoredVideo, complete
      segments-32.h5        the pooled training view (see segments.py)

A video's file is written under a temporary name, closed, synced and renamed, so a final name means a complete file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssrl.config import STORE_FORMAT, StoreConfig
from ssrl.datasets.video import Split, Video
from ssrl.errors import UserError
from ssrl.geometry import Rows
from ssrl.plain import from_plain, to_plain

__all__ = ["StoreConfig", "StoredVideo", "VideoRecord"]

CONFIG_FILE = "store.json"
VIDEO_FOLDER = "videos"
VIDEO_SUFFIX = ".h5"
FILE_ATTRIBUTES = ("complete", "configuration")  # of a video's file that do not describe the video
ARRAY_SUFFIX = ".npy"  # of imported feature files
KEPT = "the features that the store already has of it are kept and still used: put this right, or remove its row"


@dataclass(frozen=True)
class StoredVideo:
    """What a store records about one video besides its features."""

    video: Video  # as the dataset describes it; its path is where the features came from
    num_frames: int  # as counted while decoding
    fps: float | None = None
    source_bytes: int = 0
    source_modified: int = 0  # nanoseconds; of a folder, its newest file
    source_sha256: str = ""  # of its content; "": made by an earlier version
    substituted_frames: int = 0  # failed to decode and repeat their neighbor
    missing_frames: int = 0  # declared by the file but not in it: it is truncated
    rows: Rows = "snippets"  # what each row of features covers
    reused_cubes: int = 0  # patch cubes that reused an earlier feature
    num_frames_known: bool = True  # False: assumed to be 16 per row

    @property
    def id(self) -> str:
        return self.video.id

    @property
    def imported(self) -> bool:
        """Whether the features were imported from an array, so that there is no video to show."""
        return self.video.path.suffix == ARRAY_SUFFIX


def VideoRecord(
    id: str,
    num_frames: int,
    label: int | None,
    split: Split,
    category: str = "",
    fps: float | None = None,
    source: str = "",
    anomalies: tuple[tuple[int, int], ...] | None = None,
    **facts: Any,
) -> StoredVideo:
    """Make a `StoredVideo` from flat values."""
    video = Video(id, Path(source), label, split, category, anomalies=anomalies)
    return StoredVideo(video, num_frames, fps, **facts)


def to_attributes(stored: StoredVideo) -> dict[str, Any]:
    """Flatten a record and its `Video` into HDF5 attributes, one per value that is not None."""
    values = to_plain(stored)
    video = values.pop("video")
    del video["num_frames"], video["anomalous_seconds"]  # superseded by what the frames themselves tell
    values |= {**video, "source": _to_text_or_bytes(video["path"])}
    del values["path"]
    if values["anomalies"] is not None:
        values["anomalies"] = np.asarray(values["anomalies"], dtype=np.int64).reshape(-1, 2)
    return {name: value for name, value in values.items() if value is not None}


def _to_text_or_bytes(path: str) -> str | np.void:
    """HDF5 takes text in UTF-8 alone, which the names of files need not be."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return np.void(os.fsencode(path))
    return path


def from_attributes(attributes: Mapping[str, Any], path: Path) -> StoredVideo:
    """The inverse of `to_attributes`. Raises a UserError naming `path` if something is missing."""
    defaults = {"label": None, "fps": None, "anomalies": None, "source_modified": 0, "source_sha256": ""}
    values = {**defaults, **attributes, "video_num_frames": None}
    names = {"path": "source", "num_frames": "video_num_frames"}
    fields = ("id", "path", "label", "split", "category", "num_frames", "anomalies")
    try:
        video = {name: values.pop(names.get(name, name)) for name in fields}
        if isinstance(video["path"], np.void):
            video["path"] = os.fsdecode(video["path"].tobytes())
    except KeyError as error:
        raise UserError(f"{path} does not say which video it holds ({error}); delete it and extract again") from error
    return from_plain(StoredVideo, {**values, "video": {**video, "anomalous_seconds": None}}, path)


def read_config(root: Path) -> StoreConfig:
    """Read the configuration of the store at `root`."""
    path = root / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{root} is not a feature store (no {CONFIG_FILE}); create one with ssrl-extract")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or extract into a new folder") from error
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != STORE_FORMAT:
        raise UserError(
            f"{path} has store format {version!r}; this version reads format {STORE_FORMAT}. "
            f"Extract the features again with ssrl-extract, or use the version of ssrl that wrote them"
        )
    return from_plain(StoreConfig, value, path)


def get_video_path(root: Path, video_id: str) -> Path:
    """The file of one video. A "/" in the id makes a subfolder."""
    return root / VIDEO_FOLDER / f"{video_id}{VIDEO_SUFFIX}"


SECONDS = "seconds"  # of each frame, in a video's file, where its times are known


def get_scale_name(scale: int) -> str:
    return f"scale{scale}"
