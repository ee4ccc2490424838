"""The last seconds of a stream as it came, and clips cut from them.

    packets   ├─────── before ───────┤ event ├── after ──┤
              K  .  .  .  K  .  .  .  K  .  .  .  K  .  .         K: a key frame, where a clip can begin

Packets are kept encoded: seconds of video take little memory, and H.264 goes into the clip unchanged. Other codings
are encoded anew, once the clip is complete.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ssrl.files import replacing

MAX_BYTES = 256 << 20  # of the ring, and of each clip
COPIED = "h264"  # the coding that goes into a clip as it is
CRF = "23"  # of clips that are encoded anew


class Coding:
    """How the packets of one connection are encoded; outlives the connection."""

    def __init__(self, stream: Any) -> None:
        self.name: str = stream.codec_context.name
        self.time_base: Fraction = stream.time_base
        self.rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.template: Any = None  # for what is copied
        if self.name == COPIED:
            self._holder: Any = av.open(io.BytesIO(), "w", format="matroska")
            self.template = self._holder.add_stream_from_template(stream, opaque=True)
        self.extradata: bytes | None = stream.codec_context.extradata
        self.size = (stream.codec_context.width, stream.codec_context.height)
        self.pix_fmt: str | None = stream.codec_context.pix_fmt


@dataclass(frozen=True)
class Packet:
    """An encoded frame. Times in ticks of its coding's time base, and in seconds of the stream."""

    content: bytes
    pts: int | None
    dts: int | None
    is_keyframe: bool
    seconds: float
    coding: Coding = field(repr=False)


class Clip:
    """Packets of an event, from a key frame on; filled until `end_seconds`."""

    def __init__(self, packets: list[Packet], longest_end: float) -> None:
        self.packets = packets
        self.end_seconds = longest_end
        self.num_bytes = sum(len(packet.content) for packet in packets)

    def add(self, packet: Packet) -> bool:
        """Returns whether the clip goes on."""
        same = not self.packets or packet.coding is self.packets[0].coding
        if not same or packet.seconds > self.end_seconds or self.num_bytes > MAX_BYTES:
            return False
        if self.packets or packet.is_keyframe:
            self.packets.append(packet)
            self.num_bytes += len(packet.content)
        return True


class Recorder:
    """Keeps the packets of the last `before_seconds`, back to a key frame. Used by two threads."""

    def __init__(self, before_seconds: float) -> None:
        self.before_seconds = before_seconds
        self._ring: deque[Packet] = deque()
        self._num_bytes = 0
        self._clips: list[Clip] = []
        self._lock = threading.Lock()

    def add(self, packet: Packet) -> None:
        with self._lock:
            self._ring.append(packet)
            self._num_bytes += len(packet.content)
            self._forget(packet.seconds - self.before_seconds)
            self._clips = [clip for clip in self._clips if clip.add(packet)]

    def begin_clip(self, start_seconds: float, longest_seconds: float) -> Clip:
        """A clip from the last key frame before `start_seconds` on, which goes on for at most `longest_seconds`."""
        with self._lock:
            starts = [i for i, packet in enumerate(self._ring) if packet.is_keyframe]
            before = [i for i in starts if self._ring[i].seconds <= start_seconds] or starts[:1]
            packets = list(self._ring)[before[-1] :] if before else []
            packets = [packet for packet in packets if packet.coding is packets[-1].coding]
            clip = Clip(packets, start_seconds + longest_seconds)
            self._clips.append(clip)
            return clip

    def end_clip(self, clip: Clip, end_seconds: float) -> None:
        """Let a clip end there, or cut it there."""
        with self._lock:
            clip.end_seconds = min(clip.end_seconds, end_seconds)
            while clip.packets and clip.packets[-1].seconds > clip.end_seconds:
                clip.packets.pop()
                self._clips = [each for each in self._clips if each is not clip]

    def is_complete(self, clip: Clip) -> bool:
        with self._lock:
            return clip not in self._clips

    def end_clips(self) -> None:
        """No more packets come for the clips of now, as at the end of a connection."""
        with self._lock:
            self._clips = []

    def _forget(self, seconds: float) -> None:
        """Drop whole groups from a key frame to the next that end before `seconds`, or are too large."""
        while (following := self._find_second_key()) is not None:
            if self._ring[following].seconds > seconds and self._num_bytes <= MAX_BYTES:
                return
            for _ in range(following):
                self._num_bytes -= len(self._ring.popleft().content)
        if self._num_bytes > MAX_BYTES:  # a stream without key frames
            self._ring.clear()
            self._num_bytes = 0

    def _find_second_key(self) -> int | None:
        return next((i for i, packet in enumerate(self._ring) if i and packet.is_keyframe), None)


def write_clip(path: Path, clip: Clip) -> bool:
    """Write a clip as H.264 in MP4; False if it holds no packets."""
    if not clip.packets:
        return False
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as output:
        (_copy if clip.packets[0].coding.name == COPIED else _encode)(output, clip.packets)
    return True


def _copy(output: Any, packets: list[Packet]) -> None:
    coding = packets[0].coding
    stream = output.add_stream_from_template(coding.template, opaque=True)
    first = min((packet.dts for packet in packets if packet.dts is not None), default=0)
    last = -1
    for each in packets:
        dts = each.dts if each.dts is not None else each.pts
        if dts is None or dts - first <= last:
            continue  # MP4 takes increasing times alone
        last = dts - first
        packet = av.Packet(each.content)
        packet.dts, packet.pts = last, (each.pts if each.pts is not None else dts) - first
        packet.time_base, packet.is_keyframe, packet.stream = coding.time_base, each.is_keyframe, stream
        output.mux(packet)


def _encode(output: Any, packets: list[Packet]) -> None:
    coding = packets[0].coding
    decoder: Any = av.CodecContext.create(coding.name, "r")
    decoder.extradata = coding.extradata
    decoder.width, decoder.height = coding.size
    if coding.pix_fmt:
        decoder.pix_fmt = coding.pix_fmt
    stream = output.add_stream("libx264", rate=coding.rate, options={"preset": "veryfast", "crf": CRF})
    stream.width, stream.height = (side // 2 * 2 for side in coding.size)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    first, last = packets[0].seconds, -1
    tick = 1 / coding.rate
    for each in packets:
        try:
            frames = decoder.decode(av.Packet(each.content))
        except av.error.FFmpegError:
            continue
        for frame in frames:
            last = max(last + 1, round((each.seconds - first) / tick))
            picture = frame.reformat(stream.width, stream.height, "yuv420p")
            picture.pts, picture.time_base = last, tick
            output.mux(stream.encode(picture))
    output.mux(stream.encode(None))
