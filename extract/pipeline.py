"""The extraction stage: videos → a patch-feature store.

    videos ── decoders, a process each ──▶ snippets ── batches, across videos ──▶ runtime ──▶ HDF5, a file a video

Every queue is bounded. One bad video does not stop a run: it is named at the end. A full disk does, since every further
video would fail.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import NamedTuple

import numpy as np

from ssrl.datasets.video import Dataset, Video
from ssrl.errors import UserError
from ssrl.extract.decoding import NUM_SLOTS, TIME_LIMIT_SECONDS, Decoded, Decoder, DecoderLost, Request
from ssrl.extract.readers import AUTO
from ssrl.extract.reuse import StaticReuse
from ssrl.extract.runtimes import Runtime
from ssrl.files import measure_size
from ssrl.store.layout import StoredVideo
from ssrl.store.writer import StoreWriter, VideoWriter

Runtimes = Callable[[tuple[int, ...]], Runtime]  # of these scales; the same runtime for the same scales
Features = dict[int, np.ndarray]  # scale → (n, N_r, D)


class ExtractionWatcher:
    """What is told while an extraction goes on. Does nothing: override what is of interest."""

    def run_begins(self, found: Dataset, runtime: str, num_videos: int) -> None: ...

    def video_kept(self, video_id: str) -> None: ...

    def snippet_done(self, video_id: str, num_snippets: int) -> None: ...

    def video_done(self, record: StoredVideo, seconds: float) -> None: ...

    def video_failed(self, video_id: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Decoding:
    """How videos are decoded: with which reader, by how many processes, how many snippets ahead each."""

    backend: str = AUTO
    num_decoders: int = 1
    num_slots: int = NUM_SLOTS
    time_limit_seconds: float = TIME_LIMIT_SECONDS  # for one snippet


@dataclass
class Summary:
    """What a run came to."""

    kept: list[str] = field(default_factory=list)  # were in the store already
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # id → reason
    substituted: dict[str, int] = field(default_factory=dict)  # id → frames that did not decode
    truncated: dict[str, int] = field(default_factory=dict)  # id → frames that the file declares, and that did not come
    num_snippets: int = 0
    num_frames: int = 0
    num_reused: int = 0  # patch cubes that took an earlier feature
    seconds: float = 0.0


def extract_videos(
    videos: Iterable[Video],
    writer: StoreWriter,
    runtimes: Runtimes,
    watcher: ExtractionWatcher,
    decoding: Decoding = Decoding(),
) -> Summary:
    """Encode every video of `videos` at the scales that the store lacks. They are drawn from the iterator one by one,
    as the decoders become free.
    """
    run = _Run(iter(videos), writer, runtimes, watcher, decoding)
    began = time.monotonic()
    try:
        run.go()
    finally:
        run.stop()
    run.summary.seconds = time.monotonic() - began
    return run.summary


class _Held(NamedTuple):
    """A decoded snippet that waits to be encoded."""

    job: _Job
    slot: int


class _Job:
    """One video in hand: its decoder, its file, and how far it has come."""

    def __init__(
        self,
        video: Video,
        request: Request,
        decoder: Decoder,
        writer: StoreWriter,
        runtimes: Runtimes,
        retried: bool = False,
    ) -> None:
        scales = writer.missing_scales(video.id)
        self.video = video
        self.request = request
        self.decoder = decoder
        self.retried = retried
        self.began = time.monotonic()
        self.num_rows = 0
        self.runtime = runtimes(scales)
        self.reuse = StaticReuse(self.runtime) if writer.config.reuse_static else None
        self._stack = ExitStack()
        self.file: VideoWriter = self._stack.enter_context(writer.video(video.id, scales))
        try:
            decoder.begin(request)
        except OSError as error:
            self.abandon(error)
            raise

    def append(self, features: Features, slot: int) -> None:
        self.decoder.give_back(slot)
        self.file.append(features)
        self.num_rows += 1

    def finish(self, decoded: Decoded) -> StoredVideo:
        """The video's file gets its name."""
        reused = 0 if self.reuse is None else self.reuse.num_reused
        record = _record(self.video, decoded, reused)
        self.file.finish(record)
        self._stack.close()
        return record

    def abandon(self, error: BaseException) -> None:
        """Nothing of the video stays; its decoder is in the middle of it, or cannot be trusted."""
        self.decoder.kill()
        self._stack.__exit__(type(error), error, error.__traceback__)


class _Run:
    """Jobs side by side, and the loop that feeds the runtime from them."""

    def __init__(
        self,
        videos: Iterator[Video],
        writer: StoreWriter,
        runtimes: Runtimes,
        watcher: ExtractionWatcher,
        decoding: Decoding,
    ) -> None:
        self.videos = videos
        self.writer = writer
        self.runtimes = runtimes
        self.watcher = watcher
        self.decoding = decoding
        self.summary = Summary()
        geometry = writer.config.geometry
        self.idle = [
            Decoder(geometry, decoding.num_slots, decoding.time_limit_seconds) for _ in range(decoding.num_decoders)
        ]
        self.jobs: list[_Job] = []

    def go(self) -> None:
        while True:
            self._begin_jobs()
            if not self.jobs:
                return
            held = self._gather()
            if held:
                self._encode(held)

    def stop(self) -> None:
        """End all workers; videos in hand are dropped."""
        for job in self.jobs:
            job.abandon(RuntimeError("the run has ended"))
            self.idle.append(job.decoder)
        self.jobs = []
        for decoder in self.idle:
            decoder.kill()

    def _begin_jobs(self) -> None:
        while self.idle and (video := next(self.videos, None)) is not None:
            if self.writer.has(video.id):
                self.summary.kept.append(video.id)
                self.watcher.video_kept(video.id)
                continue
            backend = self.decoding.backend if video.path.is_file() else AUTO
            segments = self.writer.config.train_sampling == "segments" and video.split == "train"
            self._begin(video, Request(video.path, backend, segments), self.idle.pop())

    def _begin(self, video: Video, request: Request, decoder: Decoder, retried: bool = False) -> None:
        try:
            self.jobs.append(_Job(video, request, decoder, self.writer, self.runtimes, retried))
        except (UserError, OSError) as error:
            self.idle.append(decoder)
            self._report(video, error)

    def _gather(self) -> list[_Held]:
        """Snippets that are decoded by now, at most a batch; waits for the first. Sees to videos that end meanwhile."""
        held: list[_Held] = []
        while self.jobs and len(held) < (batch := max(job.runtime.batch for job in self.jobs)):
            ready = self._ready(may_wait=not held)
            if not ready:
                break
            for job in ready[: batch - len(held)]:
                slot = self._receive(job)
                if slot is not None:
                    held.append(_Held(job, slot))
        return held

    def _ready(self, may_wait: bool) -> list[_Job]:
        """Jobs whose decoder has something to say, or has been silent for too long."""
        patience = max(0.0, min(job.decoder.seconds_left for job in self.jobs)) if may_wait else 0.0
        speaking = wait([job.decoder.connection for job in self.jobs], patience)
        silent = may_wait and not speaking
        return [job for job in self.jobs if job.decoder.connection in speaking or (silent and _is_hung(job))]

    def _receive(self, job: _Job) -> int | None:
        """The job's next slot; None where its video has ended, well or not."""
        try:
            said = job.decoder.receive()
            if isinstance(said, int):
                return said
            self._finish(job, said)
        except DecoderLost as error:
            self._drop(job, error)
            self._try_again(job, error)
        except (UserError, OSError) as error:
            self._drop(job, error)
            self._report(job.video, error)
        return None

    def _try_again(self, job: _Job, error: DecoderLost) -> None:
        """Once more, from its start, with the reader that puts up with most."""
        if job.retried:
            self._report(job.video, error)
        else:
            self._begin(job.video, replace(job.request, backend=AUTO), self.idle.pop(), retried=True)

    def _encode(self, held: list[_Held]) -> None:
        """Each runtime (there is one for each set of missing scales) takes its part of what is held as one batch."""
        for runtime in {id(job.runtime): job.runtime for job, _ in held}.values():
            part = [(job, slot) for job, slot in held if job.runtime is runtime]
            for (job, slot), features in zip(part, self._features(runtime, part), strict=True):
                self._append(job, slot, features)

    def _features(self, runtime: Runtime, held: list[tuple[_Job, int]]) -> list[Features]:
        snippets = [job.decoder.snippet(slot) for job, slot in held]
        if self.writer.config.reuse_static:
            return [job.reuse.snippet(snippet) for (job, _), snippet in zip(held, snippets, strict=True) if job.reuse]
        together = runtime.snippets(snippets[0][None] if len(snippets) == 1 else np.stack(snippets))
        return [{scale: array[i : i + 1] for scale, array in together.items()} for i in range(len(snippets))]

    def _append(self, job: _Job, slot: int, features: Features) -> None:
        if job not in self.jobs:
            return  # dropped within this batch
        try:
            job.append(features, slot)
            self.watcher.snippet_done(job.video.id, job.num_rows)
        except (UserError, OSError) as error:
            self._drop(job, error)
            self._report(job.video, error)

    def _finish(self, job: _Job, decoded: Decoded) -> None:
        record = job.finish(decoded)
        self.jobs.remove(job)
        self.idle.append(job.decoder)
        self.summary.done.append(record.id)
        self.summary.num_frames += record.num_frames
        self.summary.num_snippets += job.num_rows
        self.summary.num_reused += record.reused_cubes
        if record.substituted_frames:
            self.summary.substituted[record.id] = record.substituted_frames
        if record.missing_frames:
            self.summary.truncated[record.id] = record.missing_frames
        self.watcher.video_done(record, time.monotonic() - job.began)

    def _drop(self, job: _Job, error: Exception) -> None:
        self.jobs.remove(job)
        job.abandon(error)
        self.idle.append(job.decoder)

    def _report(self, video: Video, error: Exception) -> None:
        if _is_disk_full(error):
            raise UserError(
                f"the disk is full: {video.id} could not be written to {self.writer.root}. The videos before it are "
                f"kept; free some space and give the same command again"
            ) from error
        self.summary.failed[video.id] = str(error)
        self.watcher.video_failed(video.id, str(error))


def _is_hung(job: _Job) -> bool:
    return job.decoder.seconds_left <= 0


def _record(video: Video, decoded: Decoded, reused_cubes: int) -> StoredVideo:
    """What the store keeps of a video. Raises a UserError where its annotations do not fit what was decoded."""
    if video.num_frames is not None and video.num_frames != decoded.num_frames:
        raise UserError(
            f"{video.path} has {decoded.num_frames} frames, but its annotations are for {video.num_frames}; "
            f"correct the annotations, or replace the damaged video"
        )
    return StoredVideo(
        replace(video, num_frames=decoded.num_frames),  # refuses anomalies beyond the last frame
        decoded.num_frames,
        decoded.fps,
        source_bytes=measure_size(video.path),
        substituted_frames=decoded.substituted_frames,
        missing_frames=decoded.missing_frames,
        rows=decoded.rows,
        reused_cubes=reused_cubes,
    )


def _is_disk_full(error: Exception) -> bool:
    """HDF5 reports it in words, often after closing the file has failed as well."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(e, OSError) and (e.errno in full or "No space left" in str(e)) for e in causes)
