"""Every reader backend against the same cases; the pixels are checked against PyAV's and Pillow's own decoding."""

from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ssrl.errors import UserError
from ssrl.extract.readers import BACKENDS, DecoderStopped, UnreadableVideo, open_reader
from ssrl.files import natural_key
from tests import media

HAS_DECORD = importlib.util.find_spec("decord") is not None
FILE_BACKENDS = [
    "auto",
    "pyav",
    pytest.param("decord", marks=pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this machine")),
]
# The two bring different versions of FFmpeg, whose 10-bit and interlaced conversions round differently; all other
# videos agree to the bit. A neighboring frame of these videos differs by more than 4 levels in the mean.
MEAN_TOLERANCE = 3.0


def read(path: Path, backend: str = "auto") -> list[np.ndarray]:
    with open_reader(path, backend) as reader:
        return list(reader.frames())


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [media.number_of(frame) for frame in frames]


def decoded_by_pyav(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def raw_vp9(path: Path, count: int) -> Path:
    options = {"deadline": "realtime", "cpu-used": "8"}
    return media.write_video(path, media.numbered_frames(count), codec="libvpx-vp9", options=options)


def motion_jpeg(path: Path, count: int) -> Path:
    return media.write_video(path, media.numbered_frames(count), codec="mjpeg", pix_fmt="yuvj420p")


INTACT: dict[str, tuple[str, Callable[[Path, int], Path]]] = {
    "h264": ("v.mp4", media.write_h264),
    "h264-mkv": ("v.mkv", media.write_h264),
    "h264-avi": ("v.avi", media.write_h264),
    "mpeg4-avi": ("v.avi", media.write_mpeg4),
    "mpeg4-avi-b-frames": ("v.avi", lambda path, count: media.write_mpeg4(path, count, options={"bf": "2"})),
    "avi-without-index": ("v.avi", lambda path, count: media.drop_index(media.write_mpeg4(path, count))),
    "avi-that-claims-100": ("v.avi", lambda path, count: media.lie_about_frames(media.write_mpeg4(path, count), 100)),
    "avi-that-claims-10": ("v.avi", lambda path, count: media.lie_about_frames(media.write_mpeg4(path, count), 10)),
    "motion-jpeg": ("v.avi", motion_jpeg),
    "vp9": ("v.webm", raw_vp9),
    "ten-bit": ("v.mp4", media.write_ten_bit),
    "variable-rate": ("v.mp4", media.write_variable_rate),
    "odd-size": ("v.mp4", lambda path, count: media.write_h264(path, count, height=49, width=81, pix_fmt="yuv444p")),
}


@pytest.mark.parametrize("backend", FILE_BACKENDS)
@pytest.mark.parametrize("case", INTACT)
def test_every_frame_comes_once_and_in_order(tmp_path: Path, case: str, backend: str) -> None:
    name, write = INTACT[case]
    path = write(tmp_path / name, 40)
    with open_reader(path, backend) as reader:
        frames = list(reader.frames())
        assert reader.substituted_frames == 0
    assert numbers(frames) == list(range(40))
    for frame, expected in zip(frames, decoded_by_pyav(path), strict=True):
        assert frame.dtype == np.uint8 and frame.shape == expected.shape and frame.flags.c_contiguous
        assert np.abs(frame.astype(int) - expected).mean() < MEAN_TOLERANCE


@pytest.mark.parametrize("name", ["v.ts", "v.mpg", "v.h264"])
def test_streams_that_decord_does_not_read(tmp_path: Path, name: str) -> None:
    codec = "mpeg2video" if name == "v.mpg" else "libx264"
    path = media.write_video(tmp_path / name, media.numbered_frames(40), codec=codec, options={"g": "12", "bf": "2"})
    with open_reader(path) as reader:
        assert numbers(list(reader.frames())) == list(range(40))
        assert reader.substituted_frames == 0


@pytest.mark.parametrize("backend", FILE_BACKENDS)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
def test_short_videos(tmp_path: Path, count: int, backend: str) -> None:
    assert numbers(read(media.write_h264(tmp_path / "v.mp4", count), backend)) == list(range(count))


@pytest.mark.parametrize("backend", FILE_BACKENDS)
def test_facts_of_a_file(tmp_path: Path, backend: str) -> None:
    with open_reader(media.write_h264(tmp_path / "v.mp4", 20, fps=24), backend) as reader:
        assert reader.fps == pytest.approx(24) and reader.declared_frames == 20
    with open_reader(media.write_h264(tmp_path / "v.mkv", 20), backend) as reader:
        assert reader.declared_frames is None  # Matroska does not say
    with open_reader(media.lie_about_frames(media.write_mpeg4(tmp_path / "v.avi"), 100), backend) as reader:
        assert reader.declared_frames == 100 and len(list(reader.frames())) == 40
    with open_reader(media.write_variable_rate(tmp_path / "w.mp4", 40), backend) as reader:
        assert reader.fps == pytest.approx(25 / 2, rel=0.05)  # 40 frames that last 1, 2, 3, ... ticks of 1/25 s


@pytest.mark.parametrize("backend", FILE_BACKENDS)
@pytest.mark.parametrize(("degrees", "quarter_turns"), [(90, 1), (180, 2), (270, 3)])
def test_rotated_videos_come_upright(tmp_path: Path, degrees: int, quarter_turns: int, backend: str) -> None:
    # ffmpeg's rotation is counter-clockwise, as is np.rot90's; decord turns by itself and is a second opinion
    path = media.write_h264(tmp_path / "v.mp4", 5, height=64, width=128, rotation=degrees)
    frames = read(path, backend)
    assert frames[0].shape == ((128, 64, 3) if quarter_turns % 2 else (64, 128, 3))
    assert numbers([np.rot90(frame, -quarter_turns) for frame in frames]) == [0, 1, 2, 3, 4]


def test_rotation_at_a_size_that_decord_cannot_turn(tmp_path: Path) -> None:
    path = media.write_portrait(tmp_path / "v.mp4", 5)
    assert read(path)[0].shape == (80, 48, 3)
    if HAS_DECORD:
        with pytest.raises(DecoderStopped, match="pyav"):
            read(path, "decord")


# What damage leaves: the frame numbers that must come back as they were, and how many are known to be substitutes.


def test_undecodable_packets_are_filled_with_the_previous_frame(tmp_path: Path) -> None:
    path = media.damage(media.write_mpeg4(tmp_path / "v.avi", 40), range(15, 22))
    with open_reader(path) as reader:
        frames = list(reader.frames())
        assert reader.substituted_frames == 7
    assert len(frames) == 40
    assert numbers(frames[:15]) == list(range(15)) and numbers(frames[24:]) == list(range(24, 40))
    assert all(np.array_equal(frame, frames[14]) for frame in frames[15:22])


@pytest.mark.parametrize("write", [media.write_h264, media.write_mpeg4])
def test_holes_keep_their_place_among_b_frames(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / ("v.mp4" if write is media.write_h264 else "v.avi"), 40, options={"bf": "2"})
    media.damage(path, range(15, 22))
    with open_reader(path) as reader:
        frames = list(reader.frames())
        assert reader.substituted_frames >= 7
    assert len(frames) == 40
    assert numbers(frames[:12]) == list(range(12)) and numbers(frames[24:]) == list(range(24, 40))


def test_a_broken_first_key_frame_is_counted(tmp_path: Path) -> None:
    for path in (media.write_h264(tmp_path / "v.mp4", 40), media.write_mpeg4(tmp_path / "v.avi", 40)):
        with open_reader(media.damage(path, [0])) as reader:
            frames = list(reader.frames())
            assert reader.substituted_frames == 12  # all up to the next key frame
        assert len(frames) == 40 and numbers(frames[12:]) == list(range(12, 40))


def test_frames_that_the_decoder_patches_up_are_counted(tmp_path: Path) -> None:
    path = media.damage(media.write_h264(tmp_path / "v.mp4", 40), [15], skip=12)  # the packet's header stays
    with open_reader(path) as reader:
        assert len(list(reader.frames())) == 40
        assert reader.substituted_frames >= 1


def test_holes_at_the_end(tmp_path: Path) -> None:
    path = media.damage(media.write_mpeg4(tmp_path / "v.avi", 40), range(36, 40))
    with open_reader(path) as reader:
        frames = list(reader.frames())
        assert reader.substituted_frames == 4
    assert numbers(frames) == [*range(36), 35, 35, 35, 35]


def test_frames_that_vanish_without_an_error_are_holes(tmp_path: Path) -> None:
    # Without the key frame 12, the decoder drops what refers to it and says nothing
    path = media.damage(media.write_h264(tmp_path / "v.mp4", 40), [12])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        errors, decoded = 0, 0
        for packet in container.demux(stream):
            try:
                decoded += len(packet.decode())
            except av.error.FFmpegError:
                errors += 1
    assert decoded + errors < 40
    with open_reader(path) as reader:
        frames = list(reader.frames())
        assert reader.substituted_frames >= 40 - decoded
    assert len(frames) == 40 and numbers(frames[24:]) == list(range(24, 40))


@pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this machine")
def test_decord_stops_where_it_would_repeat_frames(tmp_path: Path) -> None:
    transport_stream = media.write_h264(tmp_path / "v.ts", 40)  # intact, but decord skips its first 12 frames
    assert numbers(read(transport_stream)) == list(range(40))
    damaged = media.damage(media.write_h264(tmp_path / "v.mp4", 40), range(15, 22))
    for path in (transport_stream, damaged):
        with pytest.raises(DecoderStopped, match="backend 'pyav'"):
            read(path, "decord")


@pytest.mark.parametrize("name", ["v.ts", "v.avi"])
def test_a_recording_that_starts_between_key_frames(tmp_path: Path, name: str) -> None:
    whole = (media.write_h264 if name == "v.ts" else media.write_mpeg4)(tmp_path / name, 40)
    path = media.cut_head(whole, tmp_path / f"cut-{name}", packets=5)
    with open_reader(path) as reader:
        frames = list(reader.frames())
        assert reader.substituted_frames == 7  # frames 5 to 11 refer to what is not there
    assert len(frames) == 35 and numbers(frames[7:]) == list(range(12, 40))
    if HAS_DECORD:
        with pytest.raises(DecoderStopped, match="without a key frame"):
            open_reader(path, "decord")


def test_a_cut_off_file_gives_what_is_there(tmp_path: Path) -> None:
    whole = media.write_h264(tmp_path / "v.mp4", 60, container_options={"movflags": "faststart"})
    with open_reader(media.truncate(whole, 0.6)) as reader:
        frames = list(reader.frames())
        assert reader.declared_frames == 60
    assert 15 < len(frames) < 60
    assert numbers(frames[:15]) == list(range(15))
    with open_reader(media.truncate(media.write_mpeg4(tmp_path / "v.avi", 120), 0.8)) as reader:
        frames = list(reader.frames())
        assert reader.declared_frames == 120
    assert 60 < len(frames) < 120 and numbers(frames[:60]) == list(range(60))


def not_a_video(path: Path) -> Path:
    path.write_text("frames are elsewhere\n" * 50)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


BAD: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "sound alone": ("v.mp4", media.write_audio_only, "no video stream"),
    "text": ("v.mp4", not_a_video, "no video"),
    "empty": ("v.mp4", empty, "0 bytes"),
    "absent": ("v.mp4", lambda path: path, "there is no video"),
    "cut before its index": ("v.mp4", lambda path: media.truncate(media.write_h264(path), 0.5), "cut off"),
    "folder": ("v.mp4", lambda path: media.write_frames(path, media.numbered_frames(2)), "a folder"),
}


@pytest.mark.parametrize("backend", FILE_BACKENDS[1:])
@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named(tmp_path: Path, case: str, backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    name, write, reason = BAD[case]
    path = write(tmp_path / name)
    with pytest.raises(UnreadableVideo, match=reason) as caught:
        read(path, backend)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nothing of the libraries reaches the terminal


def test_a_file_without_one_good_frame(tmp_path: Path) -> None:
    path = media.damage(media.write_h264(tmp_path / "v.mp4", 40), range(40))
    with pytest.raises(UnreadableVideo, match=r"not one frame .* of 40"):
        read(path)


def test_damage_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read(media.damage(media.write_h264(tmp_path / "v.mp4", 40), range(15, 22)))
    assert capfd.readouterr() == ("", "")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.write_h264(tmp_path / "v.mp4", 5)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, who may read everything
    with pytest.raises(UnreadableVideo, match=r"v\.mp4.*Permission denied"):
        open_reader(path)


def test_an_unknown_backend_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="auto, decord, pyav, frames"):
        open_reader(tmp_path / "v.mp4", "opencv")
    assert list(BACKENDS) == ["decord", "pyav", "frames"]


@pytest.mark.parametrize("backend", FILE_BACKENDS[1:])
def test_memory_does_not_grow_with_the_video(tmp_path: Path, backend: str) -> None:
    path = media.write_mpeg4(tmp_path / "v.avi", 600, height=96, width=160)
    frame_bytes = 96 * 160 * 3
    read(media.write_mpeg4(tmp_path / "warm.avi", 20), backend)  # imports and caches
    tracemalloc.start()
    try:
        with open_reader(path, backend) as reader:
            count = sum(1 for _ in reader.frames())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 600
    assert peak_bytes < 60 * frame_bytes  # a tenth of the video


def test_closing_midway_frees_the_file(tmp_path: Path) -> None:
    path = media.write_h264(tmp_path / "v.mp4", 40)
    with open_reader(path) as reader:
        frames: Iterator[np.ndarray] = reader.frames()
        assert media.number_of(next(frames)) == 0
    open_files = [link.resolve() for link in Path("/proc/self/fd").glob("*")] if Path("/proc/self/fd").is_dir() else []
    assert path.resolve() not in open_files


# Folders of pictures


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
