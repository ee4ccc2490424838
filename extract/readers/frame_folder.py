"""A folder of pictures as a video, in natural order: 2.jpg before 10.jpg."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ssrl.extract.readers.errors import UnreadableVideo
from ssrl.files import natural_key

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


class FrameFolderReader:
    """Reads the pictures of one folder. A picture that does not decode is replaced by the previous (at the start, by
    the next) and counted in `substituted_frames`. Pictures may differ in size; other and hidden files are ignored.
    """

    fps: float | None = None
    seconds: np.ndarray | None = None

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._pictures = list_pictures(self.path)
        self.declared_frames: int | None = len(self._pictures)
        self.substituted_frames = 0

    def __enter__(self) -> FrameFolderReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Each picture is closed once it is read."""

    def frames(self) -> Iterator[np.ndarray]:
        """(h, w, 3) uint8 RGB, one by one. Raises `UnreadableVideo` where not one picture decodes."""
        previous: np.ndarray | None = None
        waiting = 0  # damaged pictures before the first good one
        for path in self._pictures:
            pixels = read_picture(path)
            if pixels is None:
                self.substituted_frames += 1
                if previous is None:
                    waiting += 1
                else:
                    yield previous
                continue
            for _ in range(waiting):
                yield pixels
            waiting = 0
            previous = pixels
            yield pixels
        if previous is None:
            raise UnreadableVideo(
                f"{self.path}: not one of its {waiting} pictures could be decoded; they are damaged: get them again"
            )


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    except FileNotFoundError as error:
        raise UnreadableVideo(f"there is no folder {folder}; check the path") from error
    except OSError as error:
        raise UnreadableVideo(f"{folder} cannot be listed as a folder of frames ({error.strerror})") from error
    if not found:
        raise UnreadableVideo(f"{folder} holds no pictures; frames are files that end in {', '.join(SUFFIXES)}")
    found.sort(key=lambda path: natural_key(path.name))
    twins = next(((a, b) for a, b in pairwise(found) if a.stem == b.stem), None)
    if twins:
        raise UnreadableVideo(
            f"{folder} holds {twins[0].name} and {twins[1].name}: a frame must be there once; remove one kind of file"
        )
    return found


def read_picture(path: Path) -> np.ndarray | None:
    """(h, w, 3) uint8 RGB, or None where the file does not decode. Raises `UnreadableVideo` if it may not be opened."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return to_rgb(picture)
    except PermissionError as error:
        raise UnreadableVideo(f"{path} cannot be opened ({error.strerror}); check its permissions") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        return None


def to_rgb(picture: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8: gray is repeated, 16 bits keep the upper 8, a palette is looked up, alpha is dropped."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16-bit gray
        gray = (np.clip(np.asarray(picture).astype(np.int64), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    return np.array(picture.convert("RGB"))
