"""What a patch-feature store is, on disk and in words.

    features/<name>/
      store.json            StoreConfig
      videos/<video id>.h5  scale1 (T, C, D) · scale2 (T, 6, D) · ...   attributes: StoredVideo, complete
      segments-32.h5        the pooled training view (see segments.py)

A video's file is written under a temporary name, closed, synced and renamed: what carries its final name is whole.
"""

from __future__ import annotations

import json
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
ARRAY_SUFFIX = ".npy"  # of the files that features are imported from


@dataclass(frozen=True)
class StoredVideo:
    """What a store remembers of one video beside its features."""

    video: Video  # as the dataset describes it; its path is where the features came from
    num_frames: int  # as counted while decoding
    fps: float | None = None
    source_bytes: int = 0
    substituted_frames: int = 0  # frames that did not decode and repeat their neighbor
    missing_frames: int = 0  # frames that the file declares, and that did not come: it was truncated
    rows: Rows = "snippets"  # what a row of the features is
    reused_cubes: int = 0  # patch cubes that took the feature of an earlier one
    num_frames_known: bool = True  # False: nothing states it, and it was taken as 16 a row

    @property
    def id(self) -> str:
        return self.video.id

    @property
    def imported(self) -> bool:
        """Whether the features were made from an array of features, so that there is no video to look at."""
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
    """A `StoredVideo` from flat values."""
    video = Video(id, Path(source), label, split, category, anomalies=anomalies)
    return StoredVideo(video, num_frames, fps, **facts)


def to_attributes(stored: StoredVideo) -> dict[str, Any]:
    """The attributes of a video's file: one a value, of this class and of its `Video`; without those that are None."""
    values = to_plain(stored)
    video = values.pop("video")
    del video["num_frames"]  # what was counted takes its place
    values |= {"source" if name == "path" else name: value for name, value in video.items()}
    if values["anomalies"] is not None:
        values["anomalies"] = np.asarray(values["anomalies"], dtype=np.int64).reshape(-1, 2)
    return {name: value for name, value in values.items() if value is not None}


def from_attributes(attributes: Mapping[str, Any], path: Path) -> StoredVideo:
    """The inverse of `to_attributes`. Raises a UserError that names `path` where something is missing."""
    values = {"label": None, "fps": None, "anomalies": None, **attributes, "video_num_frames": None}
    names = {"path": "source", "num_frames": "video_num_frames"}
    fields = ("id", "path", "label", "split", "category", "num_frames", "anomalies")
    try:
        video = {name: values.pop(names.get(name, name)) for name in fields}
    except KeyError as error:
        raise UserError(f"{path} does not say what video it holds ({error}); delete it and extract again") from error
    return from_plain(StoredVideo, {**values, "video": video}, path)


def read_config(root: Path) -> StoreConfig:
    """The configuration of the store at `root`."""
    path = root / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{root} holds no feature store ({CONFIG_FILE} is not there); make one with ssrl-extract")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or extract into a new folder") from error
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != STORE_FORMAT:
        raise UserError(
            f"{path} is of store format {version!r}; this version reads format {STORE_FORMAT}. "
            f"Extract the features again with ssrl-extract, or use the version of ssrl that wrote them"
        )
    return from_plain(StoreConfig, value, path)


def video_path(root: Path, video_id: str) -> Path:
    """The file of one video. Ids may hold "/", which become folders."""
    return root / VIDEO_FOLDER / f"{video_id}{VIDEO_SUFFIX}"


def scale_name(scale: int) -> str:
    return f"scale{scale}"
