"""Video files that are damaged: which frames come back in their place, and how many are known to be substitutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError

from ssrl.extract.readers import DecoderStopped, UnreadableVideo, open_reader
from tests import media
from tests.reading import HAS_DECORD, needs_decord, numbers, read, read_and_count


def count_decoded(path: Path) -> tuple[int, int]:
    """How many frames FFmpeg's libraries make of a video, and how many packets they refuse."""
    decoded, errors = 0, 0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            try:
                decoded += len(packet.decode())
            except FFmpegError:
                errors += 1
    return decoded, errors


def test_undecodable_packets_are_filled_with_the_previous_frame(tmp_path: Path) -> None:
    path = media.damage(media.write_mpeg4(tmp_path / "v.avi", 40), range(15, 22))
    frames, substituted = read_and_count(path)
    assert substituted == 7
    assert len(frames) == 40
    assert numbers(frames[:15]) == list(range(15)) and numbers(frames[24:]) == list(range(24, 40))
    assert all(np.array_equal(frame, frames[14]) for frame in frames[15:22])


@pytest.mark.parametrize("write", [media.write_h264, media.write_mpeg4])
def test_holes_keep_their_place_among_b_frames(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / ("v.mp4" if write is media.write_h264 else "v.avi"), 40, options={"bf": "2"})
    media.damage(path, range(15, 22))
    frames, substituted = read_and_count(path)
    assert substituted >= 7
    assert len(frames) == 40
    assert numbers(frames[:12]) == list(range(12)) and numbers(frames[24:]) == list(range(24, 40))


def test_a_broken_first_key_frame_is_counted(tmp_path: Path) -> None:
    for path in (media.write_h264(tmp_path / "v.mp4", 40), media.write_mpeg4(tmp_path / "v.avi", 40)):
        frames, substituted = read_and_count(media.damage(path, [0]))
        assert substituted == 12  # all up to the next key frame
        assert len(frames) == 40 and numbers(frames[12:]) == list(range(12, 40))


def test_frames_that_the_decoder_patches_up_are_counted(tmp_path: Path) -> None:
    path = media.damage(media.write_h264(tmp_path / "v.mp4", 40), [15], skip=12)  # the packet's header stays
    frames, substituted = read_and_count(path)
    assert len(frames) == 40 and substituted >= 1


def test_holes_at_the_end(tmp_path: Path) -> None:
    path = media.damage(media.write_mpeg4(tmp_path / "v.avi", 40), range(36, 40))
    frames, substituted = read_and_count(path)
    assert substituted == 4
    assert numbers(frames) == [*range(36), 35, 35, 35, 35]


def test_frames_that_vanish_without_an_error_are_holes(tmp_path: Path) -> None:
    # Without the key frame 12, the decoder drops what refers to it and says nothing
    path = media.damage(media.write_h264(tmp_path / "v.mp4", 40), [12])
    decoded, errors = count_decoded(path)
    assert decoded + errors < 40
    frames, substituted = read_and_count(path)
    assert substituted >= 40 - decoded
    assert len(frames) == 40 and numbers(frames[24:]) == list(range(24, 40))


@needs_decord
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
    frames, substituted = read_and_count(path)
    assert substituted == 7  # frames 5 to 11 refer to what is not there
    assert len(frames) == 35 and numbers(frames[7:]) == list(range(12, 40))
    if HAS_DECORD:
        with pytest.raises(DecoderStopped, match="without a key frame"):
            open_reader(path, "decord")


@pytest.mark.parametrize("codec", ["flashsv", "qtrle"])
def test_where_a_video_begins_with_a_codec_that_flags_no_key_frame(tmp_path: Path, codec: str) -> None:
    whole = media.write_unflagged(tmp_path, codec, 40)
    frames, substituted = read_and_count(media.cut_head(whole, whole.with_stem("cut"), packets=5))
    assert len(frames) == 35 and numbers(frames[7:]) == list(range(12, 40))
    assert substituted == 7


COUNT = 120
BREAKS = [
    ("v.ts", "noise"),
    ("v.ts", "nothing"),
    ("v.mkv", "zeros"),
    ("v.mkv", "nothing"),
    ("v.mp4", "noise"),
    ("v.avi", "noise"),
    ("v.avi", "zeros"),
]


@pytest.mark.parametrize(("name", "fill"), BREAKS)
@pytest.mark.parametrize(("start", "end"), [(0.4, 0.6), (0.5, 0.52)])
def test_frames_after_a_break_keep_their_place(tmp_path: Path, name: str, fill: str, start: float, end: float) -> None:
    write = media.write_mpeg4 if name == "v.avi" else media.write_h264
    options = {"cluster_time_limit": "1000"} if name == "v.mkv" else {}
    path = media.break_file(
        write(tmp_path / name, COUNT, height=96, width=160, container_options=options), start, end, fill
    )
    frames, substituted = read_and_count(path)
    assert len(frames) == COUNT
    assert numbers(frames[:12]) == list(range(12)) and numbers(frames[96:]) == list(range(96, COUNT))
    assert substituted >= COUNT - count_decoded(path)[0] > 0


def test_a_break_takes_nothing_from_a_variable_rate(tmp_path: Path) -> None:
    times = np.cumsum([1 + index % 3 for index in range(COUNT)]).tolist()
    whole = media.write_h264(tmp_path / "v.mkv", COUNT, times=times, container_options={"cluster_time_limit": "1000"})
    path = media.break_file(whole, 0.5, 0.52, "zeros")
    assert len(read(path)) == count_decoded(path)[0]  # which frames are missing cannot be told


def test_a_leap_without_a_trace_is_filled_up_to_a_second(tmp_path: Path) -> None:
    """Beyond, it is a pause of the recording."""
    for pause, filled in ((25, 24), (26, 0), (25 * 60 + 1, 0)):
        times = [*range(20), *range(19 + pause, 39 + pause)]
        frames, substituted = read_and_count(media.write_h264(tmp_path / "v.ts", 40, times=times))
        assert (len(frames), substituted) == (40 + filled, filled)


def count_before_read_error(path: Path) -> int | None:
    """How many packets come before the demuxer's first error; None where it makes none."""
    count = 0
    try:
        with av.open(str(path)) as container:
            for packet in container.demux(container.streams.video[0]):
                count += packet.size > 0
    except FFmpegError:
        return count
    return None


def test_a_read_error_is_not_the_end(tmp_path: Path) -> None:
    whole = media.write_video(tmp_path / "v.rm", media.numbered_frames(150), codec="rv20", options={"g": "12"})
    content, path = whole.read_bytes(), tmp_path / "damaged.rm"
    for place in range(len(content) // 2, len(content)):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        if (before := count_before_read_error(path)) is not None:
            break
    frames = read(path)
    assert before is not None and before < 100
    assert len(frames) > 140 and media.number_of(frames[-1]) == 149


def test_read_errors_without_end_come_to_an_end(tmp_path: Path) -> None:
    whole = media.write_video(tmp_path / "v.y4m", media.numbered_frames(40), codec="rawvideo")
    path = media.break_file(whole, 0.5, 0.501, "nothing")  # no frame header is found from here on
    assert numbers(read(path))[:19] == list(range(19))


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


def test_a_file_without_one_good_frame(tmp_path: Path) -> None:
    path = media.damage(media.write_h264(tmp_path / "v.mp4", 40), range(40))
    with pytest.raises(UnreadableVideo, match=r"not one frame .* of 40"):
        read(path)


def test_damage_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read(media.damage(media.write_h264(tmp_path / "v.mp4", 40), range(15, 22)))
    assert capfd.readouterr() == ("", "")
