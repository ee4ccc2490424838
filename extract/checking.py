"""Reading every video without encoding it: what an extraction would stumble over, told before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ssrl.datasets.video import Video
from ssrl.extract.annotations import annotate
from ssrl.extract.decoding import Decoded, Decoder, DecoderLost, Request
from ssrl.extract.pipeline import Decoding
from ssrl.extract.readers import AUTO
from ssrl.faults import describe_error
from ssrl.geometry import Geometry


@dataclass(frozen=True)
class Checked:
    """What reading a video showed."""

    video: Video
    decoded: Decoded | None = None
    failure: str = ""  # why it cannot be extracted
    problems: tuple[str, ...] = ()  # with its annotations

    @property
    def warnings(self) -> tuple[str, ...]:
        damage: list[str] = []
        if self.decoded is not None and self.decoded.substituted_frames:
            damage.append(f"{self.decoded.substituted_frames} frames fail to decode")
        if self.decoded is not None and self.decoded.missing_frames:
            damage.append(f"truncated, {self.decoded.missing_frames} declared frames are missing")
        return (*damage, *self.problems)


def check_videos(videos: Iterable[Video], geometry: Geometry, decoding: Decoding) -> Iterator[Checked]:
    """Decode one video after the other."""
    with Decoder(geometry, decoding.num_slots, decoding.time_limit_seconds) as decoder:
        for video in videos:
            try:
                decoded = _decode(decoder, video, decoding.backend if video.path.is_file() else AUTO)
                _, problems = annotate(video, decoded.num_frames, decoded.seconds)
                yield Checked(video, decoded, problems=problems)
            except Exception as error:
                decoder.kill()
                yield Checked(video, failure=describe_error(error))


def _decode(decoder: Decoder, video: Video, backend: str) -> Decoded:
    """Decode a video to its end; as in an extraction, a second time where its decoder is lost."""
    try:
        return _drain(decoder, Request(video.path, backend))
    except DecoderLost:
        decoder.kill()
        return _drain(decoder, Request(video.path, AUTO))


def _drain(decoder: Decoder, request: Request) -> Decoded:
    decoder.begin(request)
    while not isinstance(received := decoder.receive(), Decoded):
        if received is not None:
            decoder.give_back(received)
    return received
