"""Tiny real videos for tests, encoded on the spot, and ways to damage them.

Each frame carries its own number as a bar code, so that a test can prove which frames came back and in what order:

    ┌──┬──┬──┬─ ... ─┬──┐
    │b0│b1│b2│       │b9│   BITS bars over the upper third, white for 1, black for 0, lowest bit first
    ├──┴──┴──┴─ ... ─┴──┤
    │  gradient, moving │   so that a wrong frame also differs in its pixels
    └───────────────────┘
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

BITS = 10


def numbered_frame(number: int, height: int = 48, width: int = 80) -> np.ndarray:
    """(height, width, 3) uint8 RGB with `number` (below 1024) as a bar code."""
    y, x = np.mgrid[0:height, 0:width]
    shades = [(2 * x + 3 * number) % 256, (3 * y + 2 * number) % 256, (x + y + number) % 256]
    triangle = [255 - np.abs(255 - 2 * shade) for shade in shades]  # no hard edges: they would not survive coding
    frame = np.stack(triangle, axis=-1).astype(np.uint8)
    for bit in range(BITS):
        frame[: height // 3, bit * width // BITS : (bit + 1) * width // BITS] = 255 if number >> bit & 1 else 0
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number that `numbered_frame` drew, read from the middle of each bar."""
    height, width = frame.shape[:2]
    bars = [frame[height // 6, (2 * bit + 1) * width // (2 * BITS)].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, is_white in enumerate(bars) if is_white)


def numbered_frames(count: int, height: int = 48, width: int = 80) -> list[np.ndarray]:
    return [numbered_frame(number, height, width) for number in range(count)]


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    colorspace: int | None = None,
    color_range: int | None = None,
) -> Path:
    """Encode RGB frames with PyAV. The suffix names the container.

    `times` gives each frame's presentation time in units of 1 / fps (a variable frame rate); `rotation` is the
    display rotation in degrees that the container states; `colorspace` and `color_range` are ffmpeg's numbers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream: Any = None
        for index, pixels in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=fps, options=options or {})
                stream.height, stream.width, stream.pix_fmt = pixels.shape[0], pixels.shape[1], pix_fmt
                stream.codec_context.thread_count = 1
                stream.codec_context.time_base = Fraction(1, fps)
                if colorspace is not None:
                    stream.codec_context.colorspace = colorspace
                if color_range is not None:
                    stream.codec_context.color_range = color_range
                if rotation:
                    stream.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if colorspace is not None or color_range is not None:
                frame = frame.reformat(
                    format=pix_fmt, dst_colorspace=colorspace, dst_color_range=color_range, src_color_range=2
                )
            frame.pts = times[index] if times is not None else index
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_h264(path: Path, count: int = 40, *, height: int = 48, width: int = 80, **more: Any) -> Path:
    """H.264 with B-frames and a key frame every 12 frames: decoding order differs from presentation order."""
    options = {"g": "12", "bf": "2", "preset": "veryfast", "crf": "18", **more.pop("options", {})}
    return write_video(path, numbered_frames(count, height, width), options=options, **more)


def write_mpeg4(path: Path, count: int = 40, *, height: int = 48, width: int = 80, **more: Any) -> Path:
    """MPEG-4 part 2, as in the AVI files of ShanghaiTech."""
    options = {"g": "12", "qscale": "2", **more.pop("options", {})}
    return write_video(path, numbered_frames(count, height, width), codec="mpeg4", options=options, **more)


UNFLAGGED = {  # codecs whose decoders never flag a key frame: (file, pixels)
    "cfhd": ("v.avi", "yuv422p10le"),
    "flashsv": ("v.avi", "bgr24"),
    "flashsv2": ("v.flv", "bgr24"),
    "msvideo1": ("v.avi", "rgb555le"),
    "qtrle": ("v.mov", "rgb24"),
    "rpza": ("v.mov", "rgb555le"),
    "svq1": ("v.mov", "yuv410p"),
}


def write_unflagged(folder: Path, codec: str, count: int) -> Path:
    name, pix_fmt = UNFLAGGED[codec]
    return write_video(folder / name, numbered_frames(count, 96, 160), codec=codec, pix_fmt=pix_fmt)


def write_variable_rate(path: Path, count: int = 40) -> Path:
    """H.264 whose frames come after 1, 2, 3, 1, 2, 3, ... ticks of 1/25 s."""
    times = np.cumsum([0, *(1 + index % 3 for index in range(count - 1))]).tolist()
    return write_h264(path, count, times=times)


def write_ten_bit(path: Path, count: int = 40) -> Path:
    """H.264 High 10, as some cameras record."""
    return write_h264(path, count, pix_fmt="yuv420p10le")


def write_portrait(path: Path, count: int = 20) -> Path:
    """A phone held upright: coded 80 wide and 48 high, to be shown turned by 90 degrees."""
    return write_h264(path, count, rotation=90)


def write_audio_only(path: Path, seconds: float = 0.5) -> Path:
    """A file with sound and no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = np.zeros((1, int(seconds * 16000)), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_frames(folder: Path, frames: Iterable[np.ndarray], suffix: str = ".jpg", name: str = "{:03d}") -> Path:
    """A folder of pictures, `name.format(index)` each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(frames):
        more: dict[str, Any] = {"quality": 95} if suffix in (".jpg", ".jpeg") else {}
        Image.fromarray(pixels).save(folder / f"{name.format(index)}{suffix}", **more)
    return folder


def truncate(path: Path, keep: float) -> Path:
    """Cut a file off after the given share of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def packet_spans(path: Path) -> list[tuple[int, int]]:
    """(first byte, size) of each video packet of an MP4 or AVI file, in the file's order."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [(packet.pos, packet.size) for packet in packets if packet.size and packet.pos is not None]


def damage(path: Path, packets: Iterable[int], *, skip: int = 0, fill: int | None = None, seed: int = 0) -> Path:
    """Overwrite the content of some video packets behind their first `skip` bytes: noise, or `fill` throughout."""
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(seed)
    spans = packet_spans(path)
    for index in packets:
        start, size = spans[index][0] + skip, max(0, spans[index][1] - skip)
        content[start : start + size] = bytes([fill]) * size if fill is not None else noise.bytes(size)
    path.write_bytes(content)
    return path


def break_file(path: Path, start: float, end: float, fill: str) -> Path:
    """Damage a stretch of a file, from one share of its bytes to another: "noise", "zeros", or "nothing" (removed)."""
    content = path.read_bytes()
    first, last = int(len(content) * start), int(len(content) * end)
    noise = np.random.default_rng(first).bytes(last - first)
    stretch = {"noise": noise, "zeros": bytes(last - first), "nothing": b""}[fill]
    path.write_bytes(content[:first] + stretch + content[last:])
    return path


def cut_head(path: Path, shortened: Path, packets: int) -> Path:
    """Copy a video without its first packets, as where a recording starts between two key frames."""
    with av.open(str(path)) as source, av.open(str(shortened), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size and index >= packets:
                packet.stream = stream
                target.mux(packet)
    return shortened


def drop_index(path: Path) -> Path:
    """Rename an AVI file's index chunk, as where a recorder was switched off: readers must scan."""
    content = path.read_bytes()
    place = content.rindex(b"idx1")
    path.write_bytes(content[:place] + b"JUNK" + content[place + 4 :])
    return path


def lie_about_frames(path: Path, count: int) -> Path:
    """Make an AVI file's headers declare `count` frames."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"avih") + 8 + 16, count)  # dwTotalFrames
    struct.pack_into("<I", content, content.index(b"strh") + 8 + 32, count)  # dwLength
    path.write_bytes(content)
    return path
