"""Which pixels of a video are anomalous, frame by frame, in the layouts of published ground truth.

ShanghaiTech   testing/frames/01_0014           testing/test_pixel_mask/01_0014.npy           (num_frames, H, W)
UCSD Ped2      Test/Test001                     Test/Test001_gt/001.bmp ...                   one picture per frame
Avenue         testing_videos/01.avi            testing_label_mask/1_label.mat                volLabel, one per frame

Masks in a folder of their own are found by the video's id: `<id>.npy`, `<id>/`, `<id>_gt/` or `<id>_label.mat`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ssrl.errors import UserError
from ssrl.files import natural_key

PICTURES = (".bmp", ".png", ".tif", ".tiff")
SHANGHAITECH, AVENUE = "test_pixel_mask", "testing_label_mask"


class PixelMasks(Protocol):
    """One mask per frame. `path` is the file or folder they come from."""

    path: Path

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int) -> np.ndarray:
        """(H, W) bool."""


@dataclass
class ArrayMasks:
    """(num_frames, H, W), not 0 where anomalous."""

    path: Path

    def __post_init__(self) -> None:
        try:
            self._masks = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path} is not a readable .npy file ({error}); get it again") from error
        if self._masks.ndim != 3:
            raise UserError(f"{self.path} has the shape {self._masks.shape}; pixel masks are (num_frames, H, W)")

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, frame: int) -> np.ndarray:
        mask: np.ndarray = np.asarray(self._masks[frame]) != 0
        return mask


@dataclass
class PictureMasks:
    """A folder of pictures in natural order, not black where anomalous."""

    path: Path

    def __post_init__(self) -> None:
        files = (file for file in self.path.iterdir() if file.suffix.lower() in PICTURES and file.name[0] != ".")
        self._files = sorted(files, key=lambda file: natural_key(file.name))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, frame: int) -> np.ndarray:
        from PIL import Image

        try:
            with Image.open(self._files[frame]) as image:
                mask: np.ndarray = np.asarray(image.convert("L")) != 0
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{self._files[frame]} is not a readable image ({error}); get the file again") from error
        return mask


@dataclass
class MatMasks:
    """A MATLAB file whose `volLabel` has one mask per frame, as Avenue's."""

    path: Path

    def __post_init__(self) -> None:
        from scipy.io import loadmat

        try:
            self._masks = loadmat(self.path)["volLabel"].ravel()
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            raise UserError(f"{self.path} has no readable volLabel ({error!r}); get the file again") from error

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, frame: int) -> np.ndarray:
        mask: np.ndarray = np.asarray(self._masks[frame]) != 0
        return mask


def find_pixel_masks(video_path: Path, video_id: str, folder: Path | None = None) -> PixelMasks | None:
    """Find a video's pixel masks in `folder`, or beside the video in one of the layouts above; None if it has none.

    Raises a UserError for a file that cannot be read.
    """
    for path in _list_in_folder(folder, video_id) if folder else _list_beside(video_path):
        if path.is_dir():
            masks = PictureMasks(path)
            if len(masks):
                return masks
        elif path.is_file():
            return MatMasks(path) if path.suffix == ".mat" else ArrayMasks(path)
    return None


def _list_in_folder(folder: Path, video_id: str) -> Iterator[Path]:
    for name in dict.fromkeys((video_id, video_id.rpartition("/")[2])):
        yield folder / f"{name}.npy"
        yield folder / f"{name}_gt"
        yield folder / name
        yield from _list_mat_files(folder, name)


def _list_beside(video: Path) -> Sequence[Path]:
    if not video.name:  # unknown, as of imported features
        return []
    above = video.parent.parent
    return [
        above / SHANGHAITECH / f"{video.stem}.npy",
        video.with_name(f"{video.name}_gt"),
        *_list_mat_files(above / AVENUE, video.stem),
        *_list_mat_files(above / "ground_truth_demo" / AVENUE, video.stem),
        *_list_mat_files(above.parent / "ground_truth_demo" / AVENUE, video.stem),
    ]


def _list_mat_files(folder: Path, name: str) -> Iterator[Path]:
    """Avenue's 01.avi has the masks 1_label.mat."""
    yield folder / f"{name}_label.mat"
    if name.isdecimal():
        yield folder / f"{int(name)}_label.mat"
