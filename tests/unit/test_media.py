"""Encoded videos, clips cut without encoding, and what is drawn over frames."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from matplotlib import colormaps

from ssrl.errors import UserError
from ssrl.extract.readers import open_reader
from ssrl.media.clips import copy_clip
from ssrl.media.encoding import TICKS, encode_video, list_times
from ssrl.media.overlay import COLORMAP, MAX_HEIGHT, MAX_WIDTH, OPACITY, HeatTrack, OverlayDrawer, blend_heat, fit_size
from ssrl.media.panel import EVENT_COLOR, Curve, Panel, choose_panel_height
from tests.media import (
    UNFLAGGED,
    number_of,
    numbered_frames,
    write_h264,
    write_mpeg4,
    write_portrait,
    write_unflagged,
    write_video,
)

# Encoding


def encode(path: Path, frames: list[np.ndarray], seconds: np.ndarray | None = None) -> None:
    height, width, _ = frames[0].shape
    with encode_video(path, height, width, list_times(len(frames), seconds)) as write:
        for frame in frames:
            write(frame)


def read(path: Path) -> tuple[list[np.ndarray], np.ndarray | None]:
    with open_reader(path) as reader:
        return list(reader.frames()), reader.seconds


def test_a_video_keeps_frames_and_times_and_plays_in_browsers(tmp_path: Path) -> None:
    frames, seconds = numbered_frames(30), np.cumsum([0, *([0.04, 0.1, 0.033] * 10)])[:30]
    encode(tmp_path / "v.mp4", frames, seconds)
    decoded, times = read(tmp_path / "v.mp4")
    assert [number_of(frame) for frame in decoded] == list(range(30))
    np.testing.assert_allclose(times, seconds, atol=0.001)  # type: ignore[arg-type]
    assert np.abs(decoded[20].astype(int) - frames[20]).mean() < 8  # colors too, but for what coding costs
    with av.open(str(tmp_path / "v.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.height, codec.width) == ("h264", "yuv420p", 48, 80)
    content = (tmp_path / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it plays while it loads
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_an_error_of_the_encoder_is_raised_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(av.FFmpegError):
        encode(tmp_path / "v.mp4", numbered_frames(30, width=81))  # yuv420p has even sizes
    assert not list(tmp_path.iterdir())


def test_an_error_between_frames_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), encode_video(tmp_path / "v.mp4", 48, 80, list_times(9, None)) as write:
        write(numbered_frames(1)[0])
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_times_increase() -> None:
    assert list_times(3, None).tolist() == [0, TICKS // 25, 2 * TICKS // 25]
    assert list_times(4, np.array([0, 1, 1, 1])).tolist() == [0, TICKS, TICKS + 1, TICKS + 2]


# Clips


def list_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.mov"])
def test_a_clip_begins_at_the_key_frame_before_and_holds_what_is_asked_for(tmp_path: Path, name: str) -> None:
    source = write_h264(tmp_path / name, 60)  # key frames at 0, 12, 24, ...
    clip = copy_clip(source, tmp_path / "clip", 30 / 25, 45 / 25)
    numbers = [number_of(frame) for frame in read(clip)[0]]
    assert clip.name == "clip.mp4" and numbers[0] == 24 and numbers[-1] < 52
    assert set(range(30, 45)) <= set(numbers)
    if name != "v.ts":  # its packets are framed otherwise
        assert set(list_packets(clip)) <= set(list_packets(source))


def test_a_clip_of_a_whole_video_is_the_video(tmp_path: Path) -> None:
    source = write_mpeg4(tmp_path / "v.avi", 40)
    clip = copy_clip(source, tmp_path / "clip", 0, 100)
    assert [number_of(frame) for frame in read(clip)[0]] == list(range(40))
    seconds = read(clip)[1]
    assert seconds is not None
    np.testing.assert_allclose(seconds, np.arange(40) / 25, atol=0.002)


def test_times_that_do_not_begin_at_zero(tmp_path: Path) -> None:
    source = write_h264(tmp_path / "v.mkv", 60, times=list(range(1000, 1060)))
    numbers = [number_of(frame) for frame in read(copy_clip(source, tmp_path / "clip", 1.2, 1.8))[0]]
    assert numbers[0] == 24 and set(range(30, 45)) <= set(numbers)


def test_what_mp4_cannot_hold_goes_to_matroska(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mkv", numbered_frames(30), codec="libvpx")
    clip = copy_clip(source, tmp_path / "clip", 0.4, 0.8)
    assert clip.name == "clip.mkv" and set(range(10, 20)) <= {number_of(frame) for frame in read(clip)[0]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "v.mkv"]


def test_a_clip_is_shown_upright(tmp_path: Path) -> None:
    source = write_portrait(tmp_path / "v.mp4")
    assert read(copy_clip(source, tmp_path / "clip", 0, 1))[0][0].shape == read(source)[0][0].shape


@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_a_clip_of_an_avi_holds_what_is_asked_for(tmp_path: Path, b_frames: str) -> None:
    source = write_mpeg4(tmp_path / "v.avi", 60, options={"bf": b_frames})
    numbers = [number_of(frame) for frame in read(copy_clip(source, tmp_path / "clip", 30 / 25, 45 / 25))[0]]
    assert numbers[0] >= 20 and set(range(30, 45)) <= set(numbers)


@pytest.mark.parametrize("name", sorted(UNFLAGGED))
def test_a_video_whose_key_frames_are_not_known_is_copied_from_its_start_or_refused(tmp_path: Path, name: str) -> None:
    source = write_unflagged(tmp_path, name, 20)
    try:
        clip = copy_clip(source, tmp_path / "clip", 0.4, 0.8)
    except UserError as error:
        assert "cannot be cut without encoding it" in str(error)
        assert list(tmp_path.iterdir()) == [source]
    else:
        assert set(range(10, 20)) <= {number_of(frame) for frame in read(clip)[0]}


# Drawing


def test_heat_is_interpolated_between_moments() -> None:
    track, shape = HeatTrack(), (2, 3)
    values = np.array([0.2, 0.6, 1.0, 0.4])
    track.add(0, 16, np.stack([np.full(shape, value) for value in values]))  # at 2, 6, 10, 14
    track.add(16, 16, None)  # cold, at 24
    for frame in range(16):
        heat = track.at(frame)
        expected = np.interp(frame + 0.5, [2, 6, 10, 14, 24], [*values, 0])
        assert heat is not None
        np.testing.assert_allclose(heat, np.full(shape, expected))
    track.add(32, 16, None)
    assert [track.at(frame) is None for frame in (16, 23, 24, 31)] == [False, False, True, True]
    np.testing.assert_allclose(track.at(20), np.full(shape, np.interp(20.5, [14, 24], [0.4, 0])))  # type: ignore[arg-type]


def test_heat_covers_what_is_hot_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    blended, heat = picture.copy(), np.zeros((10, 15), np.float32)
    blend_heat(blended, heat)
    assert (blended == picture).all()
    heat[2:5, 3:6] = 1
    blend_heat(blended, heat)
    changed = (blended != picture).any(axis=2)
    assert changed[8:20, 12:24].all() and not changed[25:].any() and not changed[:, 30:].any()
    color = np.array(colormaps[COLORMAP](0.85)[:3]) * 255
    expected = picture[14, 18] * (1 - OPACITY) + OPACITY * color  # in the middle
    np.testing.assert_allclose(blended[14, 18], expected, atol=2)


@pytest.mark.parametrize("size", [(1080, 1920), (1920, 1080), (240, 360), (48, 80), (1, 1), (2160, 200), (481, 855)])
def test_overlays_are_of_a_moderate_even_size(size: tuple[int, int]) -> None:
    height, width = size
    panel = choose_panel_height(height)
    h, w = fit_size(height, width, panel)
    assert h % 2 == w % 2 == panel % 2 == 0 and 0 < h + panel <= MAX_HEIGHT and 0 < w <= MAX_WIDTH
    if min(size) > 200:
        assert w / h == pytest.approx(width / height, rel=0.02)


@pytest.mark.parametrize("width", [32, 400])
def test_the_panel_tells_past_from_future_and_events(width: int) -> None:
    scores, bounds = np.array([0.1, 0.9, 0.2]), np.array([0, 16, 32, 40])
    curve = Curve(scores, bounds, 0.5, ((16, 32),), np.arange(40) / 25)
    panel, strips = Panel(curve, width, 48), []
    for frame in (0, 20, 39):
        strips.append(np.empty((48, width, 3), np.uint8))
        panel.draw(strips[-1], frame)
    assert [curve.find_event(frame) for frame in (0, 15, 16, 31, 32)] == [None, None, 1, 1, None]
    assert strips[0].sum() < strips[1].sum() < strips[2].sum()  # the bright part grows
    if width == 400:
        text = strips[1][:, :40].reshape(-1, 3)
        assert (text == EVENT_COLOR).all(axis=1).any()
        assert not (strips[0][:, :40].reshape(-1, 3) == EVENT_COLOR).all(axis=1).any()


def test_frames_of_an_event_are_outlined() -> None:
    curve = Curve(np.array([0.1, 0.9, 0.1]), np.array([0, 4, 8, 10]), 0.5, ((4, 8),))
    written: list[np.ndarray] = []
    drawer = OverlayDrawer(curve, Panel(curve, 80, 24), written.append)
    frames = numbered_frames(10)
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        drawer.add(frames[start:stop], None, 4)
    drawer.finish()
    assert [frame.shape for frame in written] == [(72, 80, 3)] * 10
    assert [number_of(frame[:48]) for frame in written] == list(range(10))
    outlined = [bool((frame[0] == EVENT_COLOR).all()) for frame in written]
    assert outlined == [False] * 4 + [True] * 4 + [False] * 2
