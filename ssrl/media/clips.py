"""A part of a video file as a file of its own, without encoding it anew.

    packets   K . . . . K . . . . K . . . . K . . . .      K: a key frame
    wanted                 start └──────────┘ stop
    copied              └───────────────────┘

Packets are copied from the last key frame at or before the start until the stop. What MP4 cannot hold goes to Matroska.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from ssrl.errors import UserError
from ssrl.files import replacing

REORDERED = 4  # packets after the stop that are copied too: AVI gives B-frames the times of decoding
FORMATS = {".mp4": "mp4", ".mkv": "matroska"}


def copy_clip(source: Path, stem: Path, start: float, stop: float) -> Path:
    """Copy what a video file shows from `start` to `stop`, in seconds from its first frame, to `stem`.mp4, or else to
    `stem`.mkv; returns which. Sound is left out. Raises a UserError if neither can hold it, or it has no key frames to
    begin with, or its packets have no times.
    """
    reasons = []
    for suffix, name in FORMATS.items():
        path = stem.with_name(stem.name + suffix)
        try:
            with replacing(path) as temporary:
                _copy(source, temporary, name, start, stop)
        except (FFmpegError, ValueError, UserError) as error:
            reasons.append(f"{name}: {error}")
            continue
        return path
    raise UserError(f"{source} cannot be cut without encoding it ({'; '.join(reasons)})")


def _copy(source: Path, path: Path, name: str, start: float, stop: float) -> None:
    options = {"movflags": "+faststart"} if name == "mp4" else {}
    packets = list(_read_packets(source, start, stop))
    with ExitStack() as stack:
        container = stack.enter_context(_open(source))
        target = stack.enter_context(av.open(str(path), "w", format=name, container_options=options))
        stream = target.add_stream_from_template(container.streams.best("video"))
        decoding_times = _complete([packet.dts for packet in packets])
        first = decoding_times[0]
        for packet, decoding_time in zip(packets, decoding_times, strict=True):
            packet.pts, packet.dts = packet.pts - first, decoding_time - first
            packet.stream = stream
            target.mux(packet)


def _read_packets(source: Path, start: float, stop: float) -> Iterator[Any]:
    """The packets to copy. Seeking may lead too far: then the file is read from its start."""
    with _open(source) as container:
        stream = container.streams.best("video")
        origin = stream.start_time or 0
        first, last = (origin + round(second / stream.time_base) for second in (start, stop))
        container.seek(first, stream=stream)
        packets = list(_select(container.demux(stream), first, last))
        if not packets or packets[0].pts > first:
            container.seek(origin, stream=stream)
            packets = list(_select(container.demux(stream), first, last))
    if not packets:
        raise UserError("there is no key frame")
    yield from packets


def _select(packets: Iterator[Any], first: int, last: int) -> Sequence[Any]:
    """From the last key frame at or before `first` until `last`, in ticks."""
    selected: list[Any] = []
    num_beyond = 0
    for packet in packets:
        if not packet.size:
            continue
        if packet.pts is None:
            raise UserError("its packets have no times")
        if packet.is_keyframe and packet.pts <= first:
            selected = [packet]
        elif selected or packet.is_keyframe:
            selected.append(packet)
            num_beyond += packet.dts is not None and packet.dts >= last
            if num_beyond == REORDERED:
                break
    return selected


def _complete(times: Sequence[int | None]) -> list[int]:
    """Fill in decoding times, which Matroska does not hold and FFmpeg infers only after some packets."""
    known = [time for time in times if time is not None]
    if len(known) < 2:
        raise UserError("its packets have no decoding times")
    step = max(1, int(np.median(np.diff(known))))
    later = known[-1] + 2 * step
    completed: list[int] = []
    for time in reversed(times):
        later = later - step if time is None else time
        completed.append(later)
    return completed[::-1]


def _open(source: Path) -> Any:
    """Only local files are read, whatever a playlist inside may name."""
    return av.open(str(source), container_options={"protocol_whitelist": "file"}, metadata_errors="replace")
