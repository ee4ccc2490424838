"""Reading every video without encoding it: what an extraction would stumble over, told before it begins."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ssrl.datasets.annotations import annotate
from ssrl.datasets.video import Video
from ssrl.extract.decoding import Decoded, Decoder, DecoderLost, Request
from ssrl.extract.pipeline import Decoding, ExtractionWatcher, Summary, make_record
from ssrl.extract.readers import AUTO
from ssrl.faults import describe_error
from ssrl.geometry import Geometry


def check_videos(
    videos: Iterable[Video], geometry: Geometry, decoding: Decoding, watcher: ExtractionWatcher
) -> Summary:
    """Decode one video after the other. Of the summary, `done` are those that were read to their end."""
    summary, start = Summary(), time.monotonic()
    with Decoder(geometry, decoding.num_slots, decoding.time_limit_seconds) as decoder:
        for video in videos:
            began = time.monotonic()
            try:
                decoded = _decode(decoder, video, decoding.backend if video.path.is_file() else AUTO)
                annotated, problems = annotate(video, decoded.num_frames, decoded.seconds)
            except Exception as error:
                decoder.kill()
                summary.failed[video.id] = describe_error(error)
                watcher.video_failed(video.id, summary.failed[video.id])
                continue
            if problems:
                summary.warnings[video.id] = list(problems)
            for problem in problems:
                watcher.video_warned(video.id, problem)
            record = make_record(annotated, decoded)
            summary.add(record)
            watcher.video_done(record, time.monotonic() - began)
    summary.seconds = time.monotonic() - start
    return summary


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
