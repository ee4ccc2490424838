"""Import features that others released as NumPy arrays.

    layout    dataset       file, found by its name anywhere below the root                   array
    released  shanghaitech  SH_Train_i3d/<id>_i3d.npy, SH_Test_i3d/<id>_i3d.npy               (T, 10, D)
                            SH_PATCH23_i3d/<id>_patch23_i3d.npy, likewise 35 and 47           (T, 6, D), 15, 28
              ucf-crime     UCF_Train_i3d_32/<id>_i3d.npy                                     (10, 32, D)
                            UCF_Train_patch23_i3d_32/<id>_patch23_i3d.npy, likewise 35, 47    (6, 32, D), 15, 28
                            UCF_Test_i3d/<id>_i3d.npy                                         (T, 10, D)
                            UCF_Test_patch23_i3d/<id>_patch23_i3d.npy, likewise 35 and 47     (T, 6, D), 15, 28
    rtfm      both          only the ten-crop files of these                                  scale 1
    npy       any           <id>.npy, at exactly this path below root                           (T, D) or (T, C, D)

A row is a snippet of 16 frames, or one of S segments spread evenly over the video. Arrays in a folder whose name ends
with "_32" have their crops or patches first, and their rows are 32 segments.

The arrays are memory-mapped and copied in blocks of rows, so memory use does not grow with a video's length.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ssrl.config import Dtype, StoreConfig
from ssrl.datasets import MANIFEST
from ssrl.datasets.video import Dataset, Video
from ssrl.errors import UserError
from ssrl.geometry import ROWS, Geometry, Rows
from ssrl.store.layout import ARRAY_SUFFIX, StoredVideo, get_video_path
from ssrl.store.sources import Source
from ssrl.store.tables import write_table
from ssrl.store.writer import StoreWriter

Layout = Literal["released", "rtfm", "npy"]
SCALES: dict[Layout, tuple[int, ...]] = {"released": (1, 2, 3, 4), "rtfm": (1,), "npy": (1,)}
# dataset → scale → the release's folders, preferred among files of the same name
FOLDERS: dict[str, dict[int, tuple[str, ...]]] = {
    "shanghaitech": {
        1: ("SH_Train_i3d", "SH_Test_i3d"),
        2: ("SH_PATCH23_i3d",),
        3: ("SH_PATCH35_i3d",),
        4: ("SH_PATCH47_i3d",),
    },
    "ucf-crime": {
        1: ("UCF_Train_i3d_32", "UCF_Test_i3d"),
        2: ("UCF_Train_patch23_i3d_32", "UCF_Test_patch23_i3d"),
        3: ("UCF_Train_patch35_i3d_32", "UCF_Test_patch35_i3d"),
        4: ("UCF_Train_patch47_i3d_32", "UCF_Test_patch47_i3d"),
    },
}
ENDINGS = {1: "_i3d.npy", 2: "_patch23_i3d.npy", 3: "_patch35_i3d.npy", 4: "_patch47_i3d.npy"}
CROPS_FIRST_SUFFIX = "_32"  # of a folder's name
BLOCK_ROWS = 32  # copied at a time: 32 x 59 x 2048 float32 are 15 MB
UNKNOWN = "not known"  # as stores record it


@dataclass(frozen=True)
class ImportConfig:
    """What to import, and how to store it."""

    dataset: str
    layout: Layout
    rows: Rows = "snippets"
    dtype: Dtype = "float32"  # as the released features were computed
    encoder: str = "imported"

    def __post_init__(self) -> None:
        if self.layout not in SCALES:
            raise UserError(f"unknown layout {self.layout!r}; choose from {', '.join(SCALES)}")
        if self.rows not in ROWS:
            raise UserError(f"unknown rows {self.rows!r}; choose from {', '.join(ROWS)}")
        if self.layout != "npy" and self.dataset not in FOLDERS:
            hint = "; import custom features with --layout npy" if self.dataset == MANIFEST else ""
            raise UserError(f"layout {self.layout} is for {' and '.join(FOLDERS)}, not for {self.dataset!r}{hint}")

    @property
    def scales(self) -> tuple[int, ...]:
        return SCALES[self.layout]

    def to_store_config(self, num_crops: int, feature_dim: int) -> StoreConfig:
        return StoreConfig(
            dataset=self.dataset,
            encoder=self.encoder,
            weights=UNKNOWN,
            weights_sha256="",
            feature_dim=feature_dim,
            scales=self.scales,
            num_crops=num_crops,
            normalisation=UNKNOWN,
            precision=UNKNOWN,
            dtype=self.dtype,
        )


@dataclass
class Summary:
    """The outcome of an import."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # already in the store
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)  # id → what of a stored video has changed
    missing: dict[str, str] = field(default_factory=dict)  # id → the file not found
    failed: dict[str, str] = field(default_factory=dict)  # id → why its files were refused
    guessed: list[str] = field(default_factory=list)  # done; num_frames is unknown, assumed to be 16 per row
    unplaced: list[str] = field(default_factory=list)  # done; frame labels dropped, since they need a known num_frames
    num_rows: int = 0


@dataclass(frozen=True)
class SourceFile:
    """The array of one scale of one video."""

    scale: int
    path: Path

    @property
    def crops_first(self) -> bool:
        return self.path.parent.name.endswith(CROPS_FIRST_SUFFIX)

    def open(self) -> np.ndarray:
        """Memory-map the array as (T, N, D). Raises a UserError if it is not a floating-point array of that shape."""
        array = self._load()
        if not np.issubdtype(array.dtype, np.floating):
            raise UserError(f"{self.path} holds {array.dtype}; features must be floating-point")
        if array.ndim == 2:
            array = array[:, None]
        if array.ndim != 3 or not array.size:
            raise UserError(f"{self.path} has shape {array.shape}; features must be non-empty (T, D) or (T, N, D)")
        return array.transpose(1, 0, 2) if self.crops_first else array

    def _load(self) -> np.ndarray:
        try:
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = str(error).partition(". ")[0]  # the rest advises unpickling
            raise UserError(f"{self.path} is not a readable NumPy array ({reason}); download it again") from error
        if not isinstance(array, np.ndarray):
            array.close()
            raise UserError(f"{self.path} is an archive of arrays; save the array as .npy instead")
        return array


class FileMissing(UserError):
    """A video has no file for one of the scales."""


class Finder:
    """Finds the files below `root` that hold a video's features."""

    def __init__(self, config: ImportConfig, root: Path) -> None:
        self.config = config
        self.root = root
        self._by_name = {} if config.layout == "npy" else _index_files(root)

    def find(self, video: Video) -> tuple[SourceFile, ...]:
        """Find one file per scale. Raises FileMissing, or a UserError for duplicates."""
        return tuple(SourceFile(scale, self._find_path(video, scale)) for scale in self.config.scales)

    def check_scales(self, videos: tuple[Video, ...]) -> None:
        """Raise a UserError if, for some scale, no video has a file."""
        for scale in self.config.scales:
            if any(self._list_candidates(video, scale) for video in videos):
                continue
            example = self._get_expected_path(videos[0], scale) if videos else "none, as the split lists are empty"
            if scale == 1:
                raise UserError(
                    f"no {self.config.dataset} features below {self.root}: looked for files such as {example}; "
                    f"check --root, --dataset and --layout"
                )
            raise UserError(
                f"{self.root} holds ten-crop features of {self.config.dataset}, but none of scale {scale}: looked for "
                f"files such as {example}. Add them, or import only the ten-crop features with --layout rtfm"
            )

    def _find_path(self, video: Video, scale: int) -> Path:
        paths = self._list_candidates(video, scale)
        if not paths:
            raise FileMissing(f"{self._get_expected_path(video, scale)} not found below {self.root}")
        if len(paths) > 1:
            folders = FOLDERS[self.config.dataset][scale]
            official = [path for path in paths if path.parent.name in folders]
            paths = official if len(official) == 1 else paths
        if len(paths) > 1:
            raise UserError(f"duplicate files {' and '.join(map(str, paths))}; keep only the right one")
        return paths[0]

    def _list_candidates(self, video: Video, scale: int) -> list[Path]:
        if self.config.layout != "npy":
            return self._by_name.get(f"{video.id}{ENDINGS[scale]}", [])
        path = self.root / self._get_expected_path(video, scale)
        return [path] if path.is_file() else []

    def _get_expected_path(self, video: Video, scale: int) -> str:
        """A file's path below the root, as released."""
        if self.config.layout == "npy":
            return video.id if video.id.endswith(ARRAY_SUFFIX) else f"{video.id}{ARRAY_SUFFIX}"
        folders = FOLDERS[self.config.dataset][scale]
        return f"{folders[0 if video.split == 'train' else -1]}/{video.id}{ENDINGS[scale]}"


def _index_files(root: Path) -> dict[str, list[Path]]:
    """All released files below `root` by name. Symlinked folders are followed, each folder is entered once."""
    files: dict[str, list[Path]] = {}
    entered = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real_path = os.path.realpath(folder)
        if real_path in entered:
            subfolders.clear()
            continue
        entered.add(real_path)
        subfolders.sort()
        for name in sorted(names):
            if name.endswith(ENDINGS[1]):
                files.setdefault(name, []).append(Path(folder) / name)
    return files


def import_features(
    config: ImportConfig,
    videos: Dataset,
    root: Path,
    out: Path,
    on_video: Callable[[str], None] | None = None,
    table: str = "",
) -> Summary:
    """Write the features of `videos` found below `root` into the store at `out`, skipping videos already there.
    `table` names what lists the videos; a later import with the same name replaces the list.

    Videos with missing or invalid files are listed in the summary; the rest are imported. Raises a UserError where
    nothing can be: no file at all, a store of another configuration at `out`, a full disk.
    """
    if not root.is_dir():
        raise UserError(f"the root {root} {'is a file' if root.exists() else 'does not exist'}; it must be a folder")
    finder = Finder(config, root)
    finder.check_scales(videos.videos)
    first, num_crops, feature_dim = _read_first_shape(finder, videos)
    writer = StoreWriter(out, config.to_store_config(num_crops, feature_dim))
    write_table(out, table or f"{config.dataset} {root.resolve()}", (video.id for video in videos.videos))
    summary = Summary()
    for video in videos.videos:
        _import_or_report(video, finder, writer, first, summary)
        if on_video is not None:
            on_video(video.id)
    return summary


def _read_first_shape(finder: Finder, videos: Dataset) -> tuple[str, int, int]:
    """The id, C and D of the first readable video, which all others must match."""
    problems = []
    for video in videos.videos:
        try:
            _, num_crops, feature_dim = finder.find(video)[0].open().shape
            return video.id, num_crops, feature_dim
        except UserError as error:
            problems.append(f"{video.id}: {error}")
    raise UserError(f"none of the {len(problems)} videos can be imported from {finder.root}, e.g. {problems[0]}")


def _import_or_report(video: Video, finder: Finder, writer: StoreWriter, first: str, summary: Summary) -> None:
    try:
        files = finder.find(video)
        source = Source.of([file.path for file in files])
        arrays = {file.scale: file.open() for file in files}
        _check_shapes(files, arrays, writer.config, first)
        rows: Rows = "segments" if any(file.crops_first for file in files) else finder.config.rows
        record = _make_record(video, files, len(arrays[1]), rows, writer.config.geometry)
        plan = writer.plan(video.id, source, lambda stored: _keep_source(record, stored))
        if plan.scales:
            _write(writer, source.record(record), arrays)
        elif plan.record is not None:
            writer.update(plan.record)
    except FileMissing as error:
        if get_video_path(writer.root, video.id).is_file():
            summary.skipped.append(video.id)
        else:
            summary.missing[video.id] = str(error)
        return
    except UserError as error:
        summary.failed[video.id] = str(error)
        return
    except OSError as error:  # from writing: mapped arrays raise none
        raise UserError(
            f"cannot write {video.id} to {writer.root} ({error.strerror or error}); free some space or fix its "
            f"permissions, then rerun the command: it skips the videos already imported"
        ) from error
    if plan.changes:
        summary.changed[video.id] = plan.changes
    if not plan.scales:
        summary.skipped.append(video.id)
        return
    summary.done.append(video.id)
    summary.num_rows += len(arrays[1])
    if not record.num_frames_known:
        summary.guessed.append(video.id)
    if record.video.anomalies is None and video.anomalies is not None:
        summary.unplaced.append(video.id)


def _check_shapes(
    files: tuple[SourceFile, ...], arrays: dict[int, np.ndarray], config: StoreConfig, first: str
) -> None:
    """Raise a UserError with both numbers if an array does not match the store, or scale 1 of its video."""
    for file in files:
        num_rows, num_patches, dim = arrays[file.scale].shape
        expected_rows, expected_patches, expected_dim = config.shape(file.scale, len(arrays[1]))
        if dim != expected_dim:
            raise UserError(f"{file.path} has D = {dim}, but {first} has D = {expected_dim}; all videos must match")
        if num_patches != expected_patches and file.scale == 1:
            raise UserError(
                f"{file.path} has {num_patches} crops, but {first} has {expected_patches}; all videos must match"
            )
        if num_patches != expected_patches:
            raise UserError(f"{file.path} has {num_patches} patches, but scale {file.scale} has {expected_patches}")
        if num_rows != expected_rows:
            raise UserError(
                f"{file.path} has {num_rows} rows, but scale 1 of this video has {expected_rows}; download both again"
            )


def _make_record(
    video: Video, files: tuple[SourceFile, ...], num_rows: int, rows: Rows, geometry: Geometry
) -> StoredVideo:
    """The store's record of a video. Raises a UserError if its snippets do not match its number of frames."""
    num_frames, anomalies = video.num_frames, video.anomalies
    if num_frames is None:
        num_frames = num_rows * geometry.frames_per_snippet
        if rows == "segments" and anomalies:
            anomalies = None  # cannot be placed in a guessed length
    elif rows == "snippets" and geometry.num_snippets(num_frames) != num_rows:
        raise UserError(
            f"{files[0].path} has {num_rows} rows, but the video's {num_frames} frames make "
            f"{geometry.num_snippets(num_frames)} snippets of {geometry.frames_per_snippet}; correct the frame "
            f"count, or pass --rows segments if the rows are spread evenly over the video"
        )
    return StoredVideo(
        replace(video, path=files[0].path.resolve(), num_frames=None, anomalies=anomalies),
        num_frames,
        rows=rows,
        num_frames_known=video.num_frames is not None,
    )


def _keep_source(record: StoredVideo, stored: StoredVideo) -> StoredVideo:
    """The record of today with the source of the stored one."""
    names = ("source_bytes", "source_modified", "source_sha256")
    return replace(record, **{name: getattr(stored, name) for name in names})


def _write(writer: StoreWriter, record: StoredVideo, arrays: dict[int, np.ndarray]) -> None:
    with writer.video(record.id) as file:
        for start in range(0, len(arrays[1]), BLOCK_ROWS):
            file.append({scale: array[start : start + BLOCK_ROWS] for scale, array in arrays.items()})
        file.finish(record)
