"""Video files through PyAV (FFmpeg's libraries), tolerant of damage: the backend that keeps the count of frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from ssrl.extract.readers.errors import UnreadableVideo, check_readable
from ssrl.extract.readers.packets import OpenPackets


class PyAVReader:
    """Reads one video file in presentation order.

    A packet that does not decode leaves a hole, and a hole would move all later frames against their labels. So the
    previous frame (the next one at the start) takes its place:

        packets      0  1  2  x  4  5      x does not decode
        frames       0  1  2  2  4  5      substituted_frames = 1

    A frame that the decoder marks as damaged, or that comes before the first key frame, is kept and counted too. At a
    cut-off end the frames that were never there are not made up: `declared_frames` tells how many should have been.
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

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

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
        seen_key_frame = False
        for packet in self._packets():
            time = packet.pts if packet else None
            if packet and not packet.is_discard:
                packets.send(time)
            try:
                decoded = [reformatter.reformat(frame, format="rgb24") for frame in self._stream.decode(packet)]
            except FFmpegError:
                if packet:
                    packets.fail(time)
                continue
            for frame in decoded:
                holes = packets.holes_before(frame, decoder.reorder_depth if packet else 0)
                seen_key_frame |= frame.key_frame
                self.substituted_frames += holes + (frame.is_corrupt or not seen_key_frame)
                yield frame, holes
        holes = packets.holes_at_end()
        self.substituted_frames += holes
        yield None, holes

    def _packets(self) -> Iterator[Any]:
        """The video's packets, then None for what the decoder still holds. A read error is the end of the file."""
        packets = self._container.demux(self._stream)
        with suppress(FFmpegError):
            yield from (packet for packet in packets if packet.size)
        yield None


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
