"""A video with its labels, and a dataset of videos."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ssrl.errors import UserError

Split = Literal["train", "test"]
Intervals = tuple[tuple[int, int], ...]  # [start, stop)
SPLITS: tuple[Split, ...] = ("train", "test")
LABELS = {0: "normal", 1: "abnormal"}
UNLABELED = "unlabeled"
MAX_PART_BYTES = 240  # of a part of an id, which with a suffix must be a file name


@dataclass(frozen=True)
class Video:
    """One video with its video-level label, and its frame labels if the dataset has them."""

    id: str  # unique in its dataset; a path below the root without its suffix, so it may contain "/"
    path: Path  # a video file, or a folder of frames
    label: int | None  # 0 normal, 1 abnormal; None: unknown, only to be scored
    split: Split
    category: str = ""  # the class of the event, as the dataset names it
    num_frames: int | None = None  # if stated by the annotations
    anomalies: Intervals | None = None  # frames from 0; None: no frame labels
    anomalous_seconds: tuple[tuple[float, float], ...] | None = None  # instead, until the frames' times are known

    def __post_init__(self) -> None:
        check_id(self.id)
        if self.label is not None and self.label not in LABELS:
            raise UserError(f"video {self.id!r} has the label {self.label!r}; allowed are 0 (normal) and 1 (abnormal)")
        if self.split not in SPLITS:
            raise UserError(f"video {self.id!r} is in the split {self.split!r}; allowed are train and test")
        if self.label == 0 and self.anomalies:
            raise UserError(
                f"video {self.id!r} is labeled normal, but its frame labels hold "
                f"{len(self.anomalies)} anomalous intervals; fix one of the two"
            )
        for start, stop in self.anomalies or ():
            if not 0 <= start < stop:
                raise UserError(
                    f"video {self.id!r}: the anomalous frames {start + 1} to {stop} (from 1) are no interval; "
                    f"fix its frame labels"
                )


def name_label(label: int | None) -> str:
    """Name a label."""
    return UNLABELED if label is None else LABELS[label]


def check_id(video_id: str) -> None:
    """Reject ids that could escape the store's folder or are not portable file names."""
    parts = video_id.split("/")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError as error:
        raise UserError(f"the name {video_id!a} is not UTF-8; rename the file") from error
    if longest > MAX_PART_BYTES:
        raise UserError(
            f"a name of {longest} bytes is too long for the files that are made from it, at most {MAX_PART_BYTES}; "
            f"shorten {video_id!r}"
        )
    if not video_id or any(part in ("", ".", "..") for part in parts) or "\\" in video_id or "\0" in video_id:
        raise UserError(
            f"{video_id!r} is not a video id: allowed are relative paths without '..', a leading '/' or '\\'; "
            f"rename the file or fix the row"
        )


def to_frame_labels(anomalies: tuple[tuple[int, int], ...], num_frames: int) -> np.ndarray:
    """Convert intervals [start, stop) to frame labels: (num_frames,) uint8, 1 inside an interval."""
    labels = np.zeros(num_frames, dtype=np.uint8)
    for start, stop in anomalies:
        labels[start:stop] = 1
    return labels


def to_intervals(labels: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The inverse of `to_frame_labels`: the runs of non-zero labels as [start, stop)."""
    padded = np.concatenate([[0], (np.asarray(labels) != 0).astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(padded))
    return tuple((int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class Dataset:
    """The videos of one dataset, sorted by id; ids are unique.

    `missing` lists what is expected but not on disk, as "id: what was looked for".
    """

    name: str
    videos: tuple[Video, ...]
    missing: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        duplicates = [video_id for video_id, count in Counter(video.id for video in self.videos).items() if count > 1]
        if duplicates:
            raise UserError(
                f"{self.name} has {len(duplicates)} duplicate video ids: {', '.join(sorted(duplicates)[:5])}; "
                f"give each video a unique file name, apart from its suffix"
            )
        object.__setattr__(self, "videos", tuple(sorted(self.videos, key=lambda video: video.id)))

    @property
    def named_ids(self) -> set[str]:
        """The ids of all videos, present or missing."""
        return {video.id for video in self.videos} | {entry.partition(": ")[0] for entry in self.missing}

    def __str__(self) -> str:
        count = f"{len(self.videos)} video{'' if len(self.videos) == 1 else 's'}"
        if all(video.label is None for video in self.videos):
            return f"{self.name}: {count}"
        counts = Counter((video.split, name_label(video.label)) for video in self.videos)
        parts = [f"{counts[split, kind]} {kind} {split}" for split in SPLITS for kind in LABELS.values()]
        return f"{self.name}: {count} ({', '.join(parts)})"
