"""Features that others released as NumPy arrays, made into a store.

    layout    dataset       file, looked for by its name anywhere below the root              array
    released  shanghaitech  SH_Train_i3d/<id>_i3d.npy, SH_Test_i3d/<id>_i3d.npy               (T, 10, D)
                            SH_PATCH23_i3d/<id>_patch23_i3d.npy, likewise 35 and 47           (T, 6, D), 15, 28
              ucf-crime     UCF_Train_i3d_32/<id>_i3d.npy                                     (10, 32, D)
                            UCF_Train_patch23_i3d_32/<id>_patch23_i3d.npy, likewise 35, 47    (6, 32, D), 15, 28
                            UCF_Test_i3d/<id>_i3d.npy                                         (T, 10, D)
                            UCF_Test_patch23_i3d/<id>_patch23_i3d.npy, likewise 35 and 47     (T, 6, D), 15, 28
    rtfm      both          the ten-crop files of these alone                                 scale 1
    npy       any           <id>.npy, at this place below the root                            (T, D) or (T, C, D)

A row is a snippet of 16 frames, or one of S segments spread evenly over the video. Arrays in a folder whose name ends
with "_32" have the crops or patches in front, and their rows are 32 segments.

The arrays are mapped and copied in blocks of rows, so that memory does not grow with a video's length.
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
from ssrl.store.layout import ARRAY_SUFFIX, StoredVideo
from ssrl.store.writer import StoreWriter

Layout = Literal["released", "rtfm", "npy"]
SCALES: dict[Layout, tuple[int, ...]] = {"released": (1, 2, 3, 4), "rtfm": (1,), "npy": (1,)}
# dataset → scale → the folders of the release, which decide between two files of one name
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
CROPS_FIRST_FOLDER = "_32"  # how the names of such folders end
BLOCK_ROWS = 32  # held at a time: 32 x 59 x 2048 float32 are 15 MB
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class ImportConfig:
    """What is imported, and what it becomes."""

    dataset: str
    layout: Layout
    rows: Rows = "snippets"
    dtype: Dtype = "float32"  # what released numbers were computed in
    encoder: str = "imported"

    def __post_init__(self) -> None:
        if self.layout not in SCALES:
            raise UserError(f"there is no layout {self.layout!r}; known are {', '.join(SCALES)}")
        if self.rows not in ROWS:
            raise UserError(f"rows are {' or '.join(ROWS)}, not {self.rows!r}")
        if self.layout != "npy" and self.dataset not in FOLDERS:
            other = " Features of your own go with --layout npy" if self.dataset == MANIFEST else ""
            raise UserError(
                f"the layout {self.layout} is that of {' and '.join(FOLDERS)}, not of {self.dataset!r}.{other}"
            )

    @property
    def scales(self) -> tuple[int, ...]:
        return SCALES[self.layout]

    def store_config(self, num_crops: int, feature_dim: int) -> StoreConfig:
        return StoreConfig(
            dataset=self.dataset,
            encoder=self.encoder,
            weights=NOT_KNOWN,
            weights_sha256="",
            feature_dim=feature_dim,
            scales=self.scales,
            num_crops=num_crops,
            normalisation=NOT_KNOWN,
            precision=NOT_KNOWN,
            dtype=self.dtype,
        )


@dataclass
class Summary:
    """What an import came to."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # were in the store already
    missing: dict[str, str] = field(default_factory=dict)  # id → which file is not there
    failed: dict[str, str] = field(default_factory=dict)  # id → why its files were not taken
    guessed: list[str] = field(default_factory=list)  # done; num_frames was taken as 16 a row
    unplaced: list[str] = field(default_factory=list)  # done; without the frame labels, for which it is needed
    num_rows: int = 0


@dataclass(frozen=True)
class SourceFile:
    """The array of one scale of one video."""

    scale: int
    path: Path

    @property
    def crops_first(self) -> bool:
        return self.path.parent.name.endswith(CROPS_FIRST_FOLDER)

    def open(self) -> np.ndarray:
        """(T, N, D), mapped and not read. Raises a UserError for what is no such array of floating-point numbers."""
        array = self._load()
        if not np.issubdtype(array.dtype, np.floating):
            raise UserError(f"{self.path} holds {array.dtype}; features are floating-point numbers")
        if array.ndim == 2:
            array = array[:, None]
        if array.ndim != 3 or not array.size:
            raise UserError(f"{self.path} has the shape {array.shape}; features are (T, D) or (T, N, D), and not empty")
        return array.transpose(1, 0, 2) if self.crops_first else array

    def _load(self) -> np.ndarray:
        try:
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = str(error).partition(". ")[0]  # NumPy goes on to advise unpickling
            raise UserError(f"{self.path} is no readable NumPy array ({reason}); get the file again") from error
        if not isinstance(array, np.ndarray):
            array.close()
            raise UserError(f"{self.path} is an archive of arrays; save its array as .npy by itself")
        return array


class FileMissing(UserError):
    """A video lacks the file of a scale."""


class Finder:
    """Which files below `root` hold a video's features."""

    def __init__(self, config: ImportConfig, root: Path) -> None:
        self.config = config
        self.root = root
        self._by_name = {} if config.layout == "npy" else _files_by_name(root)

    def files(self, video: Video) -> tuple[SourceFile, ...]:
        """One file a scale. Raises FileMissing, or a UserError where two files have the name."""
        return tuple(SourceFile(scale, self._path(video, scale)) for scale in self.config.scales)

    def check_scales(self, videos: tuple[Video, ...]) -> None:
        """Raise a UserError where no video at all has a file of some scale."""
        for scale in self.config.scales:
            if any(self._candidates(video, scale) for video in videos):
                continue
            example = self._expected(videos[0], scale) if videos else "none, as the lists are empty"
            if scale == 1:
                raise UserError(
                    f"no features of {self.config.dataset} below {self.root}: looked for files such as {example}; "
                    f"correct --root, --dataset or --layout"
                )
            raise UserError(
                f"{self.root} holds ten-crop features of {self.config.dataset}, but none of scale {scale}: looked for "
                f"files such as {example}. Add them, or import the ten-crop features alone with --layout rtfm"
            )

    def _path(self, video: Video, scale: int) -> Path:
        found = self._candidates(video, scale)
        if not found:
            raise FileMissing(f"{self._expected(video, scale)} is not below {self.root}")
        if len(found) > 1:
            folders = FOLDERS[self.config.dataset][scale]
            official = [path for path in found if path.parent.name in folders]
            found = official if len(official) == 1 else found
        if len(found) > 1:
            raise UserError(f"several files have its name, {' and '.join(map(str, found))}; keep the right one alone")
        return found[0]

    def _candidates(self, video: Video, scale: int) -> list[Path]:
        if self.config.layout != "npy":
            return self._by_name.get(f"{video.id}{ENDINGS[scale]}", [])
        path = self.root / self._expected(video, scale)
        return [path] if path.is_file() else []

    def _expected(self, video: Video, scale: int) -> str:
        """The place of a file below the root, as it was released."""
        if self.config.layout == "npy":
            return video.id if video.id.endswith(ARRAY_SUFFIX) else f"{video.id}{ARRAY_SUFFIX}"
        folders = FOLDERS[self.config.dataset][scale]
        return f"{folders[0 if video.split == 'train' else -1]}/{video.id}{ENDINGS[scale]}"


def _files_by_name(root: Path) -> dict[str, list[Path]]:
    """Every file of a release below `root`. Links to folders are followed, and each folder is entered once."""
    files: dict[str, list[Path]] = {}
    entered = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:
            subfolders.clear()
            continue
        entered.add(place)
        subfolders.sort()
        for name in sorted(names):
            if name.endswith(ENDINGS[1]):
                files.setdefault(name, []).append(Path(folder) / name)
    return files


def import_features(
    config: ImportConfig, videos: Dataset, root: Path, out: Path, on_video: Callable[[str], None] | None = None
) -> Summary:
    """Write the features of `videos` that lie below `root` into the store at `out`, but for those that it has.

    A video whose files are missing or no good is named in the summary, and the rest is imported. Raises a UserError
    where nothing can be: no file at all, another store at `out`, a full disk.
    """
    if not root.is_dir():
        raise UserError(f"the root {root} must be a folder, but is {'a file' if root.exists() else 'not there'}")
    finder = Finder(config, root)
    finder.check_scales(videos.videos)
    first, num_crops, feature_dim = _first_shape(finder, videos)
    writer = StoreWriter(out, config.store_config(num_crops, feature_dim))
    summary = Summary()
    for video in videos.videos:
        if writer.has(video.id):
            summary.kept.append(video.id)
        else:
            _import_or_report(video, finder, writer, first, summary)
        if on_video is not None:
            on_video(video.id)
    return summary


def _first_shape(finder: Finder, videos: Dataset) -> tuple[str, int, int]:
    """The id, C and D of the first video that can be opened: what all others must agree with."""
    problems = []
    for video in videos.videos:
        try:
            _, num_crops, feature_dim = finder.files(video)[0].open().shape
            return video.id, num_crops, feature_dim
        except UserError as error:
            problems.append(f"{video.id}: {error}")
    raise UserError(f"none of the {len(problems)} videos can be imported from {finder.root}, e.g. {problems[0]}")


def _import_or_report(video: Video, finder: Finder, writer: StoreWriter, first: str, summary: Summary) -> None:
    try:
        files = finder.files(video)
        arrays = {file.scale: file.open() for file in files}
        _check_shapes(files, arrays, writer.config, first)
        rows: Rows = "segments" if any(file.crops_first for file in files) else finder.config.rows
        record = _record(video, files, len(arrays[1]), rows, writer.config.geometry)
        _write(writer, record, arrays)
    except FileMissing as error:
        summary.missing[video.id] = str(error)
        return
    except UserError as error:
        summary.failed[video.id] = str(error)
        return
    except OSError as error:  # reading raises none: the arrays are mapped
        raise UserError(
            f"{video.id} could not be written to {writer.root} ({error.strerror or error}). The videos before it are "
            f"kept; free some space, or correct the folder's permissions, and give the same command again"
        ) from error
    summary.done.append(video.id)
    summary.num_rows += len(arrays[1])
    if not record.num_frames_known:
        summary.guessed.append(video.id)
    if record.video.anomalies is None and video.anomalies is not None:
        summary.unplaced.append(video.id)


def _check_shapes(
    files: tuple[SourceFile, ...], arrays: dict[int, np.ndarray], config: StoreConfig, first: str
) -> None:
    """Raise a UserError that names both numbers where an array does not fit the store, or its video's scale 1."""
    for file in files:
        num_rows, num_patches, dim = arrays[file.scale].shape
        wanted_rows, wanted_patches, wanted_dim = config.shape(file.scale, len(arrays[1]))
        if dim != wanted_dim:
            raise UserError(
                f"{file.path} has D = {dim}, but {first} has D = {wanted_dim}; features must be of one kind"
            )
        if num_patches != wanted_patches and file.scale == 1:
            raise UserError(f"{file.path} has {num_patches} crops, but {first} has {wanted_patches}; they must agree")
        if num_patches != wanted_patches:
            raise UserError(f"{file.path} has {num_patches} patches, but scale {file.scale} has {wanted_patches}")
        if num_rows != wanted_rows:
            raise UserError(
                f"{file.path} has {num_rows} rows, but scale 1 of this video has {wanted_rows}; get both files again"
            )


def _record(video: Video, files: tuple[SourceFile, ...], num_rows: int, rows: Rows, geometry: Geometry) -> StoredVideo:
    """What the store keeps of a video. Raises a UserError where its snippets do not fit its number of frames."""
    num_frames, anomalies = video.num_frames, video.anomalies
    if num_frames is None:
        num_frames = num_rows * geometry.frames_per_snippet
        if rows == "segments" and anomalies:
            anomalies = None  # true frames have no place in a guessed length
    elif rows == "snippets" and geometry.num_snippets(num_frames) != num_rows:
        raise UserError(
            f"{files[0].path} has {num_rows} rows, but the video's {num_frames} frames make "
            f"{geometry.num_snippets(num_frames)} snippets of {geometry.frames_per_snippet}; correct the number of "
            f"frames, or give --rows segments if the rows are spread evenly over the video"
        )
    return StoredVideo(
        replace(video, path=files[0].path, num_frames=None, anomalies=anomalies),
        num_frames,
        source_bytes=sum(file.path.stat().st_size for file in files),
        rows=rows,
        num_frames_known=video.num_frames is not None,
    )


def _write(writer: StoreWriter, record: StoredVideo, arrays: dict[int, np.ndarray]) -> None:
    with writer.video(record.id) as file:
        for start in range(0, len(arrays[1]), BLOCK_ROWS):
            file.append({scale: array[start : start + BLOCK_ROWS] for scale, array in arrays.items()})
        file.finish(record)
