"""Video files through PyAV (FFmpeg's libraries), tolerant of damage: the backend that keeps the count of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from ssrl.extract.readers.breaks import Breaks
from ssrl.extract.readers.errors import UnreadableVideo, check_readable
from ssrl.extract.readers.packets import OpenPackets
from ssrl.extract.readers.times import FrameTimes

MAX_READ_ERRORS = 1000  # in a whole file: a demuxer that fails over and over again must come to an end
NOT_PREDICTED = (PictureType.NONE, PictureType.I)


class PyAVReader:
    """Reads one video file in presentation order.

    A packet that does not decode leaves a hole, and a hole would move all later frames against their labels. So the
    previous frame (the next one at the start) takes its place:

        packets      0  1  2  x  4  5      x does not decode
        frames       0  1  2  2  4  5      substituted_frames = 1

    So are the frames that a break in the file swallowed, as far as `Breaks` can tell. A frame that the decoder marks as
    damaged, or that comes before the first key frame, is kept and counted too. At a cut-off end the frames that were
    never there are not made up: `declared_frames` tells how many should have been.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        check_readable(self.path)
        self._container = _open(self.path)
        self._stream: Any = self._video_stream()
        self._stream.codec_context.thread_count = 1  # errors are reported with their own packet; workers share the CPU
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps: float | None = float(rate) if rate else None
        self.declared_frames: int | None = self._stream.frames or None
        self.substituted_frames = 0
        self._breaks = Breaks(self._container, self._stream)
        tick = self._stream.time_base
        self._times = FrameTimes(float(tick) if tick else None, 1 / self.fps if self.fps else 0.0)

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    @property
    def seconds(self) -> np.ndarray | None:
        """Of the frames so far."""
        return self._times.seconds

    def frames(self) -> Iterator[np.ndarray]:
        """(h, w, 3) uint8 RGB, one by one. Raises `UnreadableVideo` where not one frame decodes."""
        previous: np.ndarray | None = None
        for frame, holes in self._decoded():
            pixels = None if frame is None else upright(frame)
            substitute = pixels if previous is None else previous
            if substitute is None:
                raise UnreadableVideo(
                    f"{self.path}: not one frame could be decoded, of {self.declared_frames or holes} that it should "
                    f"hold; the file is damaged: get it again"
                )
            self._times.note(frame, holes)
            for _ in range(holes):
                yield substitute
            if pixels is not None:
                yield pixels
                previous = pixels

    def _video_stream(self) -> Any:
        try:
            stream = self._container.streams.best("video")
        except IndexError:  # a damaged file gained a stream while it was opened
            stream = None
        if stream is None or stream.codec_context is None:
            self.close()
            lack = "no video stream (sound alone?)" if stream is None else "pictures of an unknown coding"
            raise UnreadableVideo(f"{self.path} has {lack}; use another file, or convert it to MP4 with ffmpeg")
        return stream

    def _decoded(self) -> Iterator[tuple[Any, int]]:
        """Each decoded frame with the number of holes before it; at last, (None, holes at the end)."""
        decoder = self._stream.codec_context
        packets = OpenPackets(decoder.name)
        reformatter = VideoReformatter()
        has_begun = False
        for packet in self._packets():
            time = packet.pts if packet else None
            if packet and not packet.is_discard:
                packets.send(time)
            try:
                decoded = [reformatter.reformat(frame, format="rgb24") for frame in self._stream.decode(packet)]
            except FFmpegError:
                if packet:
                    packets.fail(time)
                    self._breaks.note_damage()
                continue
            for frame in decoded:
                holes = packets.holes_before(frame, decoder.reorder_depth if packet else 0)
                holes += self._breaks.missing_before(frame, packets.passed_over)
                has_begun |= stands_alone(frame, packet)
                self.substituted_frames += holes + (frame.is_corrupt or not has_begun)
                yield frame, holes
        holes = packets.holes_at_end()
        self.substituted_frames += holes
        yield None, holes

    def _packets(self) -> Iterator[Any]:
        """The video's packets, then None for what the decoder still holds. After a read error, those behind it."""
        for _ in range(MAX_READ_ERRORS):
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        self._breaks.look_at(packet)
                        yield packet
                break
            except FFmpegError:
                self._breaks.note_damage()
        yield None


def stands_alone(frame: Any, packet: Any) -> bool:
    """Whether decoding can begin with this frame.

    Some decoders (Cineform, QuickTime Animation, SVQ1, Flash Screen, ...) never flag a key frame, nor do they call any
    but SVQ1's a predicted one: there the container's flag is taken, and `packet` is the frame's own.
    """
    return frame.key_frame or (packet is not None and packet.is_keyframe and frame.pict_type in NOT_PREDICTED)


def upright(frame: Any) -> np.ndarray:
    """(h, w, 3) uint8 as it is to be shown: containers may state a rotation in degrees, counter-clockwise."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(), k=round(frame.rotation / 90) % 4))


def _open(path: Path) -> Any:
    """The opened container. Only local files are read, whatever a playlist inside may name."""
    try:
        return av.open(str(path), container_options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableVideo(
            f"{path} cannot be opened as a video ({reason}): it is no video, or its download or recording was cut "
            f"off; get it again, or convert it to MP4 with ffmpeg"
        ) from error
