"""A custom dataset, described by one or two CSV tables.

    videos.csv          video,label,split[,class][,num_frames]      paths below the root; 0 or 1; train or test
    frame_labels.csv    video,first_frame,last_frame                frames counted from 1, both included

`video` is a file or a folder of frames; its id is that path without the suffix of a video file. Other columns are
ignored. With frame labels, normal videos have no anomalous frames, and the frames of abnormal videos without a row are
unknown; without frame labels, the frames of all videos are unknown.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssrl.datasets.video import SPLITS, Dataset, Video, check_id
from ssrl.errors import UserError

VIDEO_COLUMNS = ("video", "label", "split")
FRAME_COLUMNS = ("video", "first_frame", "last_frame")
VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)


@dataclass(frozen=True)
class Row:
    """One row of a table: its values by column, and its location for messages."""

    where: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def whole_number(self, column: str) -> int:
        text = self[column]
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"{self.where}: {column} is {text!r}; allowed are whole numbers from 1; fix the row")
        return int(text)


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
    rows = read_manifest(manifest)
    events = read_events(frame_labels, rows) if frame_labels else None
    listed = tuple(_parse_video(root, video_id, row, events) for video_id, row in rows.items())
    return Dataset(root.resolve().name, listed)


def to_id(path: str) -> str:
    """Turn a path of a table into an id: no video suffix, leading "./" or trailing "/"."""
    path = path.removeprefix("./").rstrip("/")
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in VIDEO_SUFFIXES else path


def read_manifest(manifest: Path) -> dict[str, Row]:
    """Read the table's rows by video id, in order."""
    rows: dict[str, Row] = {}
    for row in read_table(manifest, VIDEO_COLUMNS):
        video_id = _parse_id(row)
        if video_id in rows:
            raise UserError(
                f"{row.where}: {row['video']} and {rows[video_id]['video']} ({rows[video_id].where}) have the same "
                f"id {video_id!r}; remove one row or rename one file"
            )
        rows[video_id] = row
    return rows


def read_events(path: Path, rows: dict[str, Row]) -> dict[str, list[tuple[int, int]]]:
    """Read the anomalous frames [start, stop), counted from 0, by video id."""
    events: dict[str, list[tuple[int, int]]] = {}
    for row in read_table(path, FRAME_COLUMNS):
        video_id = _parse_id(row)
        if video_id not in rows:
            raise UserError(f"{row.where}: {row['video']!r} is not in the manifest; add it or remove the row")
        if rows[video_id]["label"] == "0":
            raise UserError(
                f"{row.where}: {row['video']} has the label 0 (normal) in the manifest ({rows[video_id].where}), so it "
                f"cannot have anomalous frames; fix one of the two"
            )
        first, last = row.whole_number("first_frame"), row.whole_number("last_frame")
        if first > last:
            raise UserError(f"{row.where}: first_frame {first} comes after last_frame {last}; swap or fix them")
        if rows[video_id]["num_frames"] and last > (length := rows[video_id].whole_number("num_frames")):
            raise UserError(
                f"{row.where}: last_frame {last} is beyond the {length} frames of {row['video']} in the "
                f"manifest (frames count from 1); fix one of the two"
            )
        events.setdefault(video_id, []).append((first - 1, last))
    return events


def _parse_video(root: Path, video_id: str, row: Row, events: dict[str, list[tuple[int, int]]] | None) -> Video:
    if row["label"] not in ("0", "1"):
        raise UserError(f"{row.where}: label is {row['label']!r}; allowed are 0 (normal) and 1 (abnormal)")
    split = next((split for split in SPLITS if split == row["split"]), None)
    if split is None:
        raise UserError(f"{row.where}: split is {row['split']!r}; allowed are train and test")
    label = int(row["label"])
    anomalies: tuple[tuple[int, int], ...] | None = None
    if events is not None and (label == 0 or video_id in events):
        anomalies = tuple(sorted(events.get(video_id, [])))
    num_frames = row.whole_number("num_frames") if row["num_frames"] else None
    path = root / row["video"]
    return Video(video_id, path, label, split, row["class"], num_frames, anomalies)


def _parse_id(row: Row) -> str:
    video_id = to_id(row["video"])
    try:
        if row["video"].startswith("/"):
            raise UserError(f"{row['video']!r} is an absolute path; give it relative to --root")
        check_id(video_id)
    except UserError as error:
        raise UserError(f"{row.where}: {error}") from error
    return video_id


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Read the rows of a CSV table with at least `columns`; spaces are trimmed and empty lines skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        records = csv.reader(lines, strict=True)
        yield from _parse_rows(path, records, columns)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8 ({error.reason}); save the table as CSV, UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}, line {records.line_num}: not a CSV table ({error}); fix the line") from error


def _parse_rows(path: Path, records: Iterator[list[str]], columns: tuple[str, ...]) -> Iterator[Row]:
    header: list[str] | None = None
    count = 0
    for values in records:
        number = records.line_num  # type: ignore[attr-defined]
        cells = [value.strip() for value in values]
        if not any(cells):
            continue
        if header is None:
            header = [cell.lower() for cell in cells]
            _check_header(path, header, columns)
            continue
        where = f"{path}, line {number}"
        if len(cells) > len(header):
            raise UserError(f"{where}: {len(cells)} cells under {len(header)} columns; quote values with commas")
        row = Row(where, dict(zip(header, cells, strict=False)))
        for column in columns:
            if not row[column]:
                raise UserError(f"{where}: {column} is empty; each row needs {', '.join(columns)}")
        count += 1
        yield row
    if not count:
        raise UserError(f"{path} has no rows; it needs the columns {', '.join(columns)} and one row per video")


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(
            f"{path}, line 1: missing columns {', '.join(missing)}, found {', '.join(map(repr, header))}; needed are "
            f"{', '.join(columns)}, separated by commas"
        )
    duplicates = sorted({column for column in header if column and header.count(column) > 1})
    if duplicates:
        raise UserError(f"{path}, line 1: duplicate columns {', '.join(duplicates)}; remove or rename them")
