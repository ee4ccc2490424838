"""A custom dataset, described by one or two tables.

    videos.csv          video,label,split[,class][,num_frames]      paths below the root; 0 or 1; train or test
    frame_labels.csv    video,first_frame,last_frame                frames counted from 1, both included
                     or video,first_second,last_second              by the times of the video's frames

`video` is a file or a folder of frames; its id is that path without the suffix of a video file. A label may also be a
word (normal, abnormal, true, false) or the class of an abnormal event. Other columns are ignored.

With frame labels, normal videos have no anomalous frames, and the frames of abnormal videos without a row are unknown;
without frame labels, the frames of all videos are unknown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from ssrl.datasets.csv_tables import Row, choose_columns, read_table
from ssrl.datasets.video import Dataset, Split, Video, check_id
from ssrl.errors import UserError

VIDEO_COLUMNS = ("video", "label", "split")
FRAME_COLUMNS = ("video", "first_frame", "last_frame")
SECOND_COLUMNS = ("video", "first_second", "last_second")
VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
# What people write, in lower case
LABELS = {
    **dict.fromkeys(("0", "normal", "false", "no"), 0),
    **dict.fromkeys(("1", "abnormal", "anomalous", "anomaly", "true", "yes"), 1),
}
SIMILAR = 0.75  # of a word to one of these, from which it is taken for a slip of the pen
SPLIT_NAMES: dict[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def load(root: Path, manifest: Path, frame_labels: Path | None = None) -> Dataset:
    """Find the videos of the table; those not below `root` are listed in `Dataset.missing`."""
    listed = load_catalog(root, manifest, frame_labels).videos
    missing = tuple(f"{video.id}: {video.path}" for video in listed if not video.path.exists())
    if len(missing) == len(listed):
        raise UserError(
            f"none of the {len(listed)} videos of {manifest} are below {root}, e.g. {missing[0]}; point --root to the "
            f"folder that the paths in the table are relative to"
        )
    return Dataset(root.resolve().name, tuple(video for video in listed if video.path.exists()), missing)


def load_catalog(root: Path, manifest: Path, frame_labels: Path | None = None) -> Dataset:
    """List every video of the table, present or not."""
    rows = read_manifest(manifest, root)
    events = read_events(frame_labels, rows, root) if frame_labels else None
    listed = tuple(_parse_video(root, video_id, row, events) for video_id, row in rows.items())
    return Dataset(root.resolve().name, listed)


def to_id(path: str) -> str:
    """Turn a path of a table into an id: no video suffix, leading "./" or trailing "/"."""
    path = path.removeprefix("./").rstrip("/")
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in VIDEO_SUFFIXES else path


def read_manifest(manifest: Path, root: Path) -> dict[str, Row]:
    """Read the table's rows by video id, in order."""
    rows: dict[str, Row] = {}
    for row in read_table(manifest, VIDEO_COLUMNS):
        video_id = _parse_id(row, root)
        if video_id in rows:
            raise UserError(
                f"{row.where}: {row['video']} and {rows[video_id]['video']} ({rows[video_id].where}) have the same "
                f"id {video_id!r}; remove one row or rename one file"
            )
        rows[video_id] = row
    return rows


@dataclass(frozen=True)
class Events:
    """The anomalous intervals of videos, by id, in frames [start, stop) counted from 0, or in seconds."""

    frames: Mapping[str, list[tuple[int, int]]]
    seconds: Mapping[str, list[tuple[float, float]]]

    def __contains__(self, video_id: str) -> bool:
        return video_id in self.frames or video_id in self.seconds


def read_events(path: Path, rows: dict[str, Row], root: Path) -> Events:
    """Read a table of anomalous intervals."""
    frames: dict[str, list[tuple[int, int]]] = {}
    seconds: dict[str, list[tuple[float, float]]] = {}
    columns = choose_columns(path, FRAME_COLUMNS, SECOND_COLUMNS)
    for row in read_table(path, columns):
        video_id = _parse_id(row, root)
        if video_id not in rows:
            raise UserError(f"{row.where}: {row['video']!r} is not in the manifest; add it or remove the row")
        if parse_label(rows[video_id])[0] == 0:
            raise UserError(
                f"{row.where}: {row['video']} has the label {rows[video_id]['label']} (normal) in the manifest "
                f"({rows[video_id].where}), so it cannot have anomalous frames; fix one of the two"
            )
        if columns == SECOND_COLUMNS:
            begin, end = row.second("first_second"), row.second("last_second")
            if begin >= end:
                raise UserError(f"{row.where}: first_second {begin:g} is not before last_second {end:g}; fix them")
            seconds.setdefault(video_id, []).append((begin, end))
            continue
        first, last = row.whole_number("first_frame"), row.whole_number("last_frame")
        if first > last:
            raise UserError(f"{row.where}: first_frame {first} comes after last_frame {last}; swap or fix them")
        frames.setdefault(video_id, []).append((first - 1, last))
    return Events(frames, seconds)


def _parse_video(root: Path, video_id: str, row: Row, events: Events | None) -> Video:
    label, category = parse_label(row)
    split = SPLIT_NAMES.get(row["split"].lower())
    if split is None:
        raise UserError(f"{row.where}: split is {row['split']!r}; allowed are train and test")
    anomalies, seconds = None, None
    if events is not None and video_id in events.seconds:
        seconds = tuple(sorted(events.seconds[video_id]))
    elif events is not None and (label == 0 or video_id in events):
        anomalies = tuple(sorted(events.frames.get(video_id, [])))
    num_frames = row.whole_number("num_frames") if row["num_frames"] else None
    path = find_path(root, find_relative(row["video"], root))
    return Video(video_id, path, label, split, row["class"] or category, num_frames, anomalies, seconds)


def parse_label(row: Row) -> tuple[int, str]:
    """Read a row's label: 0 or 1, and the class if it is one. What may be a slip of the pen is refused."""
    text = row["label"]
    word = text.lower()
    number = word.replace(",", ".")
    if number.partition(".")[0].isdecimal() and not number.partition(".")[2].strip("0"):
        word = number.partition(".")[0]  # 1.0 or 1,0, as spreadsheets write
    if word in LABELS:
        return LABELS[word], ""
    if word.startswith("normal"):  # as UCF-Crime's Normal_Videos_event
        return 0, ""
    near = get_close_matches(word, LABELS, 1, SIMILAR)
    if near or not text[0].isalpha():
        hint = f", or did you mean {near[0]}?" if near else ""
        raise UserError(
            f"{row.where}: label is {text!r}; allowed are 0 (normal), 1 (abnormal), or the class of an abnormal "
            f"event{hint}"
        )
    return 1, text


def find_path(root: Path, relative: str) -> Path:
    """Find a path below the root; names may be composed differently than in the table (NFC, or NFD as macOS writes)."""
    path = root
    for part in PurePosixPath(relative).parts:
        following = path / part
        if not following.exists() and path.is_dir():
            same = (each for each in path.iterdir() if compose(each.name) == compose(part))
            following = next(same, following)
        path = following
    return path


def compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def find_relative(path: str, root: Path) -> str:
    """Make a path relative to the root, with "/" between its parts. Raises a UserError if it lies outside."""
    path = path.replace("\\", "/")
    if not path.startswith("/") and path[1:3] != ":/":
        return path
    for base in (root.absolute(), root.resolve()):
        if path.startswith(f"{base.as_posix().rstrip('/')}/"):
            return path[len(base.as_posix().rstrip("/")) + 1 :]
    raise UserError(f"{path!r} is an absolute path that is not below {root}; give it relative to --root")


def _parse_id(row: Row, root: Path) -> str:
    try:
        video_id = compose(to_id(find_relative(row["video"], root)))
        check_id(video_id)
    except UserError as error:
        raise UserError(f"{row.where}: {error}") from error
    return video_id
