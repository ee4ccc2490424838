"""Every backend for files against the same cases; the pixels are checked against PyAV's own decoding."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from ssrl.errors import UserError
from ssrl.extract.readers import BACKENDS, DecoderStopped, UnreadableVideo, open_reader
from tests import media
from tests.reading import HAS_DECORD, needs_decord, numbers, read, read_and_count

FILE_BACKENDS = [
    "auto",
    "pyav",
    pytest.param("decord", marks=needs_decord),
]
# The two bring different versions of FFmpeg, whose 10-bit and interlaced conversions round differently; all other
# videos agree to the bit. A neighboring frame of these videos differs by more than 4 levels in the mean.
MEAN_TOLERANCE = 3.0


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


@pytest.mark.parametrize("case", media.UNFLAGGED)
def test_codecs_whose_decoders_never_flag_a_key_frame(tmp_path: Path, case: str) -> None:
    path = media.write_unflagged(tmp_path, case, 40)
    with av.open(str(path)) as container:
        assert not any(frame.key_frame for frame in container.decode(video=0))
    frames, substituted = read_and_count(path)
    assert numbers(frames) == list(range(40)) and substituted == 0


def test_a_pause_of_the_recorder_is_no_break(tmp_path: Path) -> None:
    path = media.write_h264(tmp_path / "v.mkv", 40, times=[*range(20), *range(60, 80)])
    frames, substituted = read_and_count(path)
    assert numbers(frames) == list(range(40)) and substituted == 0


@pytest.mark.parametrize("name", ["v.ts", "v.mpg", "v.h264"])
def test_streams_that_decord_does_not_read(tmp_path: Path, name: str) -> None:
    codec = "mpeg2video" if name == "v.mpg" else "libx264"
    path = media.write_video(tmp_path / name, media.numbered_frames(40), codec=codec, options={"g": "12", "bf": "2"})
    frames, substituted = read_and_count(path)
    assert numbers(frames) == list(range(40)) and substituted == 0


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
