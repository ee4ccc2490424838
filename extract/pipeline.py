"""The extraction stage: a dataset's videos → a patch-feature store.

    for each video that the store does not have:
        decode (own process) → snippets → patch cubes of each scale → encoder → HDF5

One bad video does not stop a run: it is named at the end. A full disk does, since every further video would fail.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ssrl.datasets.video import Dataset, Video
from ssrl.errors import UserError
from ssrl.extract.decoding import Decoded, Decoder, DecoderLost
from ssrl.extract.encoders import Encoder
from ssrl.extract.readers import AUTO
from ssrl.extract.runtime import TorchRuntime
from ssrl.extract.snippets import tile
from ssrl.geometry import Geometry
from ssrl.store.layout import StoreConfig, VideoRecord
from ssrl.store.writer import StoreWriter


class Watcher(Protocol):
    """What is told while an extraction goes on."""

    def run_begins(self, num_videos: int, num_kept: int) -> None: ...

    def snippet_done(self, video_id: str, num_snippets: int) -> None: ...

    def video_done(self, record: VideoRecord, seconds: float) -> None: ...

    def video_failed(self, video_id: str, reason: str) -> None: ...


@dataclass
class Summary:
    """What a run came to."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # were in the store already
    failed: dict[str, str] = field(default_factory=dict)  # id → reason
    substituted: dict[str, int] = field(default_factory=dict)  # id → frames that did not decode
    num_snippets: int = 0
    num_frames: int = 0
    seconds: float = 0.0


def store_config(
    dataset: str, encoder: Encoder, runtime: TorchRuntime, geometry: Geometry, scales: tuple[int, ...], dtype: str
) -> StoreConfig:
    """What the features of this extraction have in common."""
    return StoreConfig(
        dataset=dataset,
        encoder=encoder.name,
        weights=encoder.weights.name,
        weights_sha256=encoder.weights.sha256,
        feature_dim=encoder.feature_dim,
        geometry=geometry,
        scales=scales,
        normalisation=encoder.normalisation,
        precision=runtime.precision,
        dtype=dtype,
    )


def extract(
    dataset: Dataset, writer: StoreWriter, runtime: TorchRuntime, watcher: Watcher, backend: str = AUTO
) -> Summary:
    """Encode every video of `dataset` that the store does not have yet."""
    began = time.monotonic()
    summary = Summary(kept=[video.id for video in dataset.videos if writer.has(video.id)])
    kept = set(summary.kept)
    todo = [video for video in dataset.videos if video.id not in kept]
    watcher.run_begins(len(todo), len(kept))
    with Decoder(writer.config.geometry) as decoder:
        for video in todo:
            _extract_or_report(video, backend, writer, runtime, decoder, watcher, summary)
    summary.seconds = time.monotonic() - began
    return summary


def _extract_or_report(
    video: Video,
    backend: str,
    writer: StoreWriter,
    runtime: TorchRuntime,
    decoder: Decoder,
    watcher: Watcher,
    summary: Summary,
) -> None:
    began = time.monotonic()
    try:
        try:
            record = _extract_video(video, backend if video.path.is_file() else AUTO, writer, runtime, decoder, watcher)
        except DecoderLost:  # once more, from its start
            record = _extract_video(video, AUTO, writer, runtime, decoder, watcher)
    except (UserError, OSError) as error:
        if _is_disk_full(error):
            raise UserError(
                f"the disk is full: {video.id} could not be written to {writer.root}. The videos before it are "
                f"kept; free some space and give the same command again"
            ) from error
        summary.failed[video.id] = str(error)
        watcher.video_failed(video.id, str(error))
        return
    summary.done.append(video.id)
    summary.num_frames += record.num_frames
    summary.num_snippets += writer.config.geometry.num_snippets(record.num_frames)
    if record.substituted_frames:
        summary.substituted[video.id] = record.substituted_frames
    watcher.video_done(record, time.monotonic() - began)


def _extract_video(
    video: Video, backend: str, writer: StoreWriter, runtime: TorchRuntime, decoder: Decoder, watcher: Watcher
) -> VideoRecord:
    with writer.video(video.id) as file:
        for num_snippets, snippet in enumerate(decoder.snippets(video.path, backend), 1):
            file.append(encode_snippet(snippet, writer.config, runtime))
            watcher.snippet_done(video.id, num_snippets)
        assert decoder.last is not None
        record = _record(video, decoder.last)
        file.finish(record)
    return record


def encode_snippet(snippet: np.ndarray, config: StoreConfig, runtime: TorchRuntime) -> dict[int, np.ndarray]:
    """(L, H, W, 3) uint8 → one array (1, N_r, D) float32 a scale."""
    prepared = runtime.prepare(snippet)
    return {scale: runtime.encode(tile(prepared, config.geometry.grid(scale)))[None] for scale in config.scales}


def _record(video: Video, decoded: Decoded) -> VideoRecord:
    """What the store keeps of a video. Raises a UserError where its annotations do not fit what was decoded."""
    if video.num_frames is not None and video.num_frames != decoded.num_frames:
        raise UserError(
            f"{video.path} has {decoded.num_frames} frames, but its annotations are for {video.num_frames}; "
            f"correct the annotations, or replace the damaged video"
        )
    checked = replace(video, num_frames=decoded.num_frames)  # refuses anomalies beyond the last frame
    return VideoRecord(
        id=checked.id,
        num_frames=decoded.num_frames,
        label=checked.label,
        split=checked.split,
        category=checked.category,
        fps=decoded.fps,
        source=str(checked.path),
        source_bytes=_size(checked.path),
        substituted_frames=decoded.substituted_frames,
        anomalies=checked.anomalies,
    )


def _is_disk_full(error: Exception) -> bool:
    """HDF5 reports it in words, often after closing the file has failed as well."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(e, OSError) and (e.errno in full or "No space left" in str(e)) for e in causes)


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
