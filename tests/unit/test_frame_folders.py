"""Folders of pictures as videos; the pixels are checked against Pillow's own decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssrl.extract.readers import UnreadableVideo, open_reader
from ssrl.files import natural_key
from tests import media
from tests.reading import numbers, read


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".JPG"])
def test_a_folder_of_pictures(tmp_path: Path, suffix: str) -> None:
    folder = media.write_frames(tmp_path / "f", media.numbered_frames(12), suffix, name="{}")  # 0, 1, 10, 11, 2, ...
    for name in (".hidden.jpg", "._0.jpg", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"not a picture")
    with open_reader(folder) as reader:
        assert reader.fps is None and reader.declared_frames == 12
        frames = list(reader.frames())
        assert reader.substituted_frames == 0
    assert numbers(frames) == list(range(12))
    with Image.open(folder / f"10{suffix}") as picture:
        assert np.array_equal(frames[10], np.asarray(picture.convert("RGB")))


def test_natural_order() -> None:
    names = ["frame_10.jpg", "frame_9.jpg", "frame_0010b.jpg", "a.jpg", "2.jpg", "10.jpg"]
    expected = ["2.jpg", "10.jpg", "a.jpg", "frame_9.jpg", "frame_10.jpg", "frame_0010b.jpg"]
    assert sorted(names, key=natural_key) == expected


GRAY = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("0.png", Image.fromarray(GRAY)),
        ("0.png", Image.fromarray(GRAY.astype(np.uint16) * 257)),
        ("0.tif", Image.fromarray(GRAY.astype(np.uint16) * 256 + 255)),
        ("0.png", Image.fromarray(GRAY).convert("P")),
        ("0.png", Image.fromarray(GRAY).convert("LA")),
        ("0.png", Image.fromarray(GRAY).convert("RGBA")),
    ],
    ids=["gray", "16-bit png", "16-bit tif", "palette", "gray and alpha", "alpha"],
)
def test_every_picture_becomes_rgb(tmp_path: Path, name: str, picture: Image.Image) -> None:
    picture.save(tmp_path / name)
    (frame,) = read(tmp_path)
    assert frame.dtype == np.uint8 and np.array_equal(frame, np.stack([GRAY] * 3, axis=-1))


def test_black_and_white_pictures(tmp_path: Path) -> None:
    Image.fromarray(GRAY > 127).save(tmp_path / "0.bmp")
    assert np.array_equal(read(tmp_path)[0][:, :, 1], np.where(GRAY > 127, 255, 0))


def test_damaged_pictures_are_filled(tmp_path: Path) -> None:
    folder = media.write_frames(tmp_path / "f", media.numbered_frames(6))
    (folder / "000.jpg").write_bytes(b"")
    (folder / "001.jpg").write_bytes(b"no picture at all")
    media.truncate(folder / "004.jpg", 0.5)
    with open_reader(folder) as reader:
        counts = []
        frames = []
        for frame in reader.frames():
            frames.append(frame)
            counts.append(reader.substituted_frames)
    assert numbers(frames) == [2, 2, 2, 3, 3, 5]
    assert counts == [2, 2, 2, 2, 3, 3]


def test_folders_without_a_good_picture(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVideo, match="holds no pictures"):
        open_reader(tmp_path)
    for name in ("0.jpg", "1.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(UnreadableVideo, match="not one of its 2 pictures"):
        read(tmp_path)
    with pytest.raises(UnreadableVideo, match="there is no folder"):
        open_reader(tmp_path / "absent", "frames")


def test_a_frame_that_is_there_twice(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png"):
        media.write_frames(tmp_path, media.numbered_frames(3), suffix)
    with pytest.raises(UnreadableVideo, match=r"000\.jpg and 000\.png"):
        open_reader(tmp_path)


def test_pictures_of_mixed_size(tmp_path: Path) -> None:
    sizes = [(48, 80), (60, 100)]
    media.write_frames(tmp_path, [media.numbered_frame(i, *size) for i, size in enumerate(sizes)])
    assert [frame.shape for frame in read(tmp_path)] == [(48, 80, 3), (60, 100, 3)]
