"""The files in which others released features as NumPy arrays.

    layout    dataset       file, found by its name anywhere below the root                   array
    released  shanghaitech  SH_Train_i3d/<id>_i3d.npy, SH_Test_i3d/<id>_i3d.npy               (T, 10, D)
                            SH_PATCH23_i3d/<id>_patch23_i3d.npy, likewise 35 and 47           (T, 6, D), 15, 28
              ucf-crime     UCF_Train_i3d_32/<id>_i3d.npy                                     (10, 32, D)
                            UCF_Train_patch23_i3d_32/<id>_patch23_i3d.npy, likewise 35, 47    (6, 32, D), 15, 28
                            UCF_Test_i3d/<id>_i3d.npy                                         (T, 10, D)
                            UCF_Test_patch23_i3d/<id>_patch23_i3d.npy, likewise 35 and 47     (T, 6, D), 15, 28
    rtfm      both          only the ten-crop files of these                                  scale 1
    npy       any           <id>.npy, at exactly this path below root                           (T, D) or (T, C, D)
                            <id>__0.npy, <id>__1.npy and so on, one per crop                    (T, D)

A row is a snippet of 16 frames, or one of S segments spread evenly over the video. Of the releases, arrays in a folder
whose name ends with "_32" have their crops or patches first, and their rows are 32 segments. The axes of other arrays
are inferred from the shapes of all (`ssrl.store.axes`).

The arrays are memory-mapped and read in blocks of rows, so memory use does not grow with a video's length.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ssrl.datasets.video import Video
from ssrl.errors import UserError
from ssrl.store.axes import CROPS_FIRST, ROWS_FIRST, Axes, arrange
from ssrl.store.layout import ARRAY_SUFFIX

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
CROP_NAME = re.compile(r"(.+)__(0|[1-9][0-9]*)\.npy")


@dataclass(frozen=True)
class FeatureFile:
    """The array of one scale of one video, in one file or in one per crop."""

    scale: int
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        more = len(self.paths) - 1
        return f"{self.paths[0]}{f' and its {more} other crop' if more else ''}{'s' if more > 1 else ''}"

    @property
    def crops_first(self) -> bool:
        """Whether the release has the crops first in files of this folder."""
        return self.paths[0].parent.name.endswith(CROPS_FIRST_SUFFIX)

    @property
    def is_per_crop(self) -> bool:
        return CROP_NAME.fullmatch(self.paths[0].name) is not None

    def get_crop_path(self, crop: int) -> Path:
        """The file of another crop."""
        return self.paths[0].with_name(f"{self.paths[0].name.removesuffix('__0.npy')}__{crop}{ARRAY_SUFFIX}")

    def get_released_axes(self, ndim: int) -> Axes:
        return (CROPS_FIRST if self.crops_first else ROWS_FIRST)[ndim]

    def open(self) -> tuple[np.ndarray, ...]:
        """Memory-map the arrays, all of one shape. Raises a UserError if one does not hold features."""
        arrays = tuple(map(_open, self.paths))
        if len(arrays) > 1 and arrays[0].ndim != 2:
            raise UserError(f"{self.paths[0]} has shape {arrays[0].shape}; one file per crop must be (T, D)")
        for path, array in zip(self.paths, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise UserError(f"{path} has shape {array.shape}, but {self.paths[0]} has {arrays[0].shape}")
        return arrays

    def read(self, axes: Axes) -> Features:
        """Raises a UserError if the arrays have another number of axes."""
        try:
            return Features([arrange(array, axes) for array in self.open()])
        except UserError as error:
            raise UserError(f"{self}: {error}") from error


@dataclass(frozen=True)
class Features:
    """Features of one scale of one video: parts (T, C, D), side by side."""

    parts: Sequence[np.ndarray]

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, crops, features = self.parts[0].shape
        return rows, crops * len(self.parts), features

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(n, C, D)"""
        return np.concatenate([part[rows] for part in self.parts], axis=1)


def _open(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).partition(". ")[0]  # the rest advises unpickling
        if "Python objects" in reason or "Object arrays" in reason:
            raise UserError(
                f"{path} is not a readable NumPy array of numbers: it holds Python objects; save it as float32"
            ) from error
        raise UserError(f"{path} is not a readable NumPy array ({reason}); download it again") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path} is an archive of arrays; save the array as .npy instead")
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{path} holds {array.dtype}; features must be floating-point; save .astype('float32')")
    if array.ndim not in ROWS_FIRST or not array.size:
        raise UserError(f"{path} has shape {array.shape}; features must be non-empty (T, D) or (T, N, D)")
    return array


class FileMissing(UserError):
    """A video has no file for one of the scales."""


class Finder:
    """Finds the files below `root` that hold a video's features."""

    def __init__(self, layout: Layout, dataset: str, root: Path) -> None:
        self.layout = layout
        self.dataset = dataset
        self.root = root
        self._by_name = {} if layout == "npy" else _index_files(root)
        self._crops: dict[Path, dict[str, list[int]]] = {}  # folder → name without its crop → crops

    def find(self, video: Video) -> tuple[FeatureFile, ...]:
        """Find the features of each scale. Raises FileMissing, or a UserError for duplicates."""
        return tuple(FeatureFile(scale, self._find_paths(video, scale)) for scale in SCALES[self.layout])

    def check_scales(self, videos: tuple[Video, ...]) -> None:
        """Raise a UserError if, for some scale, no video has a file."""
        for scale in SCALES[self.layout]:
            if any(self._list_candidates(video, scale) for video in videos):
                continue
            example = self._get_expected_path(videos[0], scale) if videos else "none, as the split lists are empty"
            if scale == 1:
                raise UserError(
                    f"no {self.dataset} features below {self.root}: looked for files such as {example}; "
                    f"check --root, --dataset and --layout"
                )
            raise UserError(
                f"{self.root} holds ten-crop features of {self.dataset}, but none of scale {scale}: looked for "
                f"files such as {example}. Add them, or import only the ten-crop features with --layout rtfm"
            )

    def _find_paths(self, video: Video, scale: int) -> tuple[Path, ...]:
        paths = self._list_candidates(video, scale)
        if self.layout == "npy" and paths:
            missing = next((path for path in paths if not path.is_file()), None)
            if missing is not None:
                raise UserError(f"{missing} not found, but {paths[-1].name} is there; add the missing crop")
            return tuple(paths)
        if not paths:
            raise FileMissing(f"{self._get_expected_path(video, scale)} not found below {self.root}")
        if len(paths) > 1:
            folders = FOLDERS[self.dataset][scale]
            official = [path for path in paths if path.parent.name in folders]
            paths = official if len(official) == 1 else paths
        if len(paths) > 1:
            raise UserError(f"duplicate files {' and '.join(map(str, paths))}; keep only the right one")
        return (paths[0],)

    def _list_candidates(self, video: Video, scale: int) -> list[Path]:
        if self.layout != "npy":
            return self._by_name.get(f"{video.id}{ENDINGS[scale]}", [])
        path = self.root / self._get_expected_path(video, scale)
        return [path] if path.is_file() else self._list_crops(path)

    def _list_crops(self, path: Path) -> list[Path]:
        """The files of a video's crops. If some are missing, the first of these is among them."""
        folder = path.parent
        if folder not in self._crops:
            self._crops[folder] = _index_crops(folder)
        crops = self._crops[folder].get(path.stem, [])
        numbers = sorted({*range(len(crops)), *crops})
        return [path.with_name(f"{path.stem}__{crop}{ARRAY_SUFFIX}") for crop in numbers]

    def _get_expected_path(self, video: Video, scale: int) -> str:
        """A file's path below the root, as released."""
        if self.layout == "npy":
            return video.id if video.id.endswith(ARRAY_SUFFIX) else f"{video.id}{ARRAY_SUFFIX}"
        folders = FOLDERS[self.dataset][scale]
        return f"{folders[0 if video.split == 'train' else -1]}/{video.id}{ENDINGS[scale]}"


def _index_crops(folder: Path) -> dict[str, list[int]]:
    """The crops that have files in a folder, by the name that they share."""
    crops: dict[str, list[int]] = {}
    for name in os.listdir(folder) if folder.is_dir() else []:
        if match := CROP_NAME.fullmatch(name):
            crops.setdefault(match[1], []).append(int(match[2]))
    return crops


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
