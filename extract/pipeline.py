"""The extraction stage: videos → a patch-feature store.

    videos ── decoders, one process each ──▶ snippets ── batches, across videos ──▶ runtime ──▶ HDF5, one file per video

Every queue is bounded. A bad video does not stop the run but is reported at the end, and so is an unforeseen error with
one video; a full disk stops it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssrl.datasets.annotations import annotate
from ssrl.datasets.video import Dataset, Video
from ssrl.errors import UserError
from ssrl.extract.decoding import NUM_SLOTS, TIME_LIMIT_SECONDS, Decoded, Decoder, DecoderLost, Request
from ssrl.extract.readers import AUTO
from ssrl.extract.readers.times import read_packet_times
from ssrl.extract.reuse import StaticReuse
from ssrl.extract.runtimes import Runtime
from ssrl.faults import describe_error
from ssrl.store.layout import KEPT, StoredVideo, get_video_path
from ssrl.store.reader import Store
from ssrl.store.sources import Source
from ssrl.store.writer import Plan, StoreWriter, VideoWriter

Runtimes = Callable[[tuple[int, ...]], Runtime]  # scales → their runtime, cached
Features = dict[int, np.ndarray]  # scale → (n, N_r, D)


class ExtractionWatcher:
    """Callbacks of an extraction. They do nothing: override those of interest."""

    def run_begins(self, found: Dataset, runtime: str, num_videos: int) -> None: ...

    def videos_left_out(self, video_ids: list[str], store: Path) -> None: ...

    def video_skipped(self, video_id: str) -> None: ...

    def video_updated(self, video_id: str, changes: tuple[str, ...]) -> None: ...

    def video_outdated(self, video_id: str, changes: tuple[str, ...]) -> None: ...

    def times_added(self, video_id: str) -> None: ...

    def video_warned(self, video_id: str, problem: str) -> None: ...

    def snippet_done(self, video_id: str, num_snippets: int) -> None: ...

    def video_done(self, record: StoredVideo, seconds: float) -> None: ...

    def video_failed(self, video_id: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Decoding:
    """How videos are decoded: by which reader, in how many processes, how many snippets ahead in each."""

    backend: str = AUTO
    num_decoders: int = 1
    num_slots: int = NUM_SLOTS
    time_limit_seconds: float = TIME_LIMIT_SECONDS  # without a frame


@dataclass
class Summary:
    """The outcome of a run."""

    skipped: list[str] = field(default_factory=list)  # already in the store
    updated: dict[str, tuple[str, ...]] = field(default_factory=dict)  # in the store: id → what its annotations changed
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # id → reason
    substituted: dict[str, int] = field(default_factory=dict)  # id → frames that failed to decode
    truncated: dict[str, int] = field(default_factory=dict)  # id → frames declared by the file but not in it
    warnings: dict[str, list[str]] = field(default_factory=dict)  # id → what is wrong with its annotations
    num_snippets: int = 0
    num_frames: int = 0
    num_reused: int = 0  # patch cubes that reused an earlier feature
    seconds: float = 0.0

    def add(self, record: StoredVideo) -> None:
        """A video is done."""
        self.done.append(record.id)
        self.num_frames += record.num_frames
        self.num_reused += record.reused_cubes
        if record.substituted_frames:
            self.substituted[record.id] = record.substituted_frames
        if record.missing_frames:
            self.truncated[record.id] = record.missing_frames


def extract_videos(
    videos: Iterable[Video],
    writer: StoreWriter,
    runtimes: Runtimes,
    watcher: ExtractionWatcher,
    decoding: Decoding = Decoding(),
) -> Summary:
    """Encode every video at the scales that the store lacks. Videos are taken from the iterable one by one, as
    decoders become free.
    """
    run = _Run(iter(videos), writer, runtimes, watcher, decoding)
    start = time.monotonic()
    try:
        run.run()
    finally:
        run.stop()
    run.summary.seconds = time.monotonic() - start
    return run.summary


class _Pending(NamedTuple):
    """A decoded snippet waiting to be encoded."""

    job: _Job
    slot: int


@dataclass(frozen=True)
class _Task:
    """A video to encode."""

    video: Video
    source: Source
    scales: tuple[int, ...]
    request: Request
    retried: bool = False


class _Job:
    """A task in progress: its decoder, its file and its state."""

    def __init__(self, task: _Task, decoder: Decoder, writer: StoreWriter, runtimes: Runtimes) -> None:
        self.task = task
        self.video = task.video
        self.decoder = decoder
        self.start = time.monotonic()
        self.num_rows = 0
        self.runtime = runtimes(task.scales)
        self.reuse = StaticReuse(self.runtime) if writer.config.reuse_static else None
        self._stack = ExitStack()
        self.file: VideoWriter = self._stack.enter_context(writer.video(self.video.id, task.scales))
        try:
            decoder.begin(task.request)
        except Exception as error:
            self.abandon(error)
            raise

    def append(self, features: Features, slot: int) -> None:
        self.decoder.give_back(slot)
        self.file.append(features)
        self.num_rows += 1

    def finish(self, decoded: Decoded) -> tuple[StoredVideo, tuple[str, ...]]:
        """Complete the video's file. Returns its record, and what is wrong with its annotations."""
        reused = 0 if self.reuse is None else self.reuse.num_reused
        video, problems = annotate(self.video, decoded.num_frames, decoded.seconds)
        record = self.task.source.record(make_record(video, decoded, reused))
        self.file.finish(record, decoded.seconds)
        self._stack.close()
        return record, problems

    def abandon(self, error: BaseException) -> None:
        """Discard the video's file and kill its decoder, which is busy with it or cannot be trusted."""
        self.decoder.kill()
        self._stack.__exit__(type(error), error, error.__traceback__)


class _Run:
    """Concurrent jobs, and the loop that feeds the runtime from them."""

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

    def run(self) -> None:
        while True:
            self._begin_jobs()
            if not self.jobs:
                return
            if pending := self._gather():
                self._encode(pending)

    def stop(self) -> None:
        """Kill all workers and drop the videos in progress."""
        for job in self.jobs:
            job.abandon(RuntimeError("the run has ended"))
            self.idle.append(job.decoder)
        self.jobs = []
        for decoder in self.idle:
            decoder.kill()

    def _begin_jobs(self) -> None:
        while self.idle and (video := next(self.videos, None)) is not None:
            try:
                source = Source.of([video.path])
                plan = self.writer.plan(video.id, source, partial(self._relabel, video))
                if plan.scales:
                    self._check_annotations(video)
                    source.remember()
                else:
                    if plan.record is not None:
                        self.writer.update(plan.record)
                    self._learn_seconds(video)
            except Exception as error:
                self._report(video, error)
                continue
            self._announce(video, plan)
            if plan.scales:
                backend = self.decoding.backend if video.path.is_file() else AUTO
                segments = self.writer.config.train_sampling == "segments" and video.split == "train"
                self._begin(_Task(video, source, plan.scales, Request(video.path, backend, segments)))

    def _relabel(self, video: Video, stored: StoredVideo) -> StoredVideo:
        """The record of a stored video with the annotations of today."""
        seconds = None if video.anomalous_seconds is None else self.writer.read_seconds(video.id)
        annotated, problems = annotate(video, stored.num_frames, seconds)
        self._warn(video, problems)
        return replace(stored, video=annotated)

    def _learn_seconds(self, video: Video) -> None:
        """Add the times of the frames to a video that an earlier version stored without, if its packets tell."""
        if not video.path.is_file() or self.writer.read_seconds(video.id) is not None:
            return
        record, seconds = Store(self.writer.root).record(video.id), read_packet_times(video.path)
        if seconds is not None and len(seconds) == record.num_frames:
            self.writer.add_seconds(record, seconds)
            self.watcher.times_added(video.id)

    def _check_annotations(self, video: Video) -> None:
        """Before a video is decoded, warn of annotations beyond its end, if its packets tell where that is."""
        if not (video.anomalies or video.anomalous_seconds) or not video.path.is_file():
            return
        seconds = read_packet_times(video.path)
        if seconds is not None:
            self._warn(video, annotate(replace(video, num_frames=None), len(seconds), seconds)[1])

    def _warn(self, video: Video, problems: tuple[str, ...]) -> None:
        """Each problem once."""
        for problem in problems:
            if problem not in self.summary.warnings.setdefault(video.id, []):
                self.summary.warnings[video.id].append(problem)
                self.watcher.video_warned(video.id, problem)

    def _announce(self, video: Video, plan: Plan) -> None:
        """Tell what of a stored video has changed, or that it is skipped."""
        if plan.scales:
            if plan.changes:
                self.watcher.video_outdated(video.id, plan.changes)
        elif plan.changes:
            self.summary.updated[video.id] = plan.changes
            self.watcher.video_updated(video.id, plan.changes)
        else:
            self.summary.skipped.append(video.id)
            self.watcher.video_skipped(video.id)

    def _begin(self, task: _Task) -> None:
        decoder = self.idle.pop()
        try:
            self.jobs.append(_Job(task, decoder, self.writer, self.runtimes))
        except Exception as error:
            self.idle.append(decoder)
            self._report(task.video, error)

    def _gather(self) -> list[_Pending]:
        """Gather decoded snippets, at most a batch, waiting for the first. Handles videos that end meanwhile."""
        pending: list[_Pending] = []
        while self.jobs and len(pending) < (batch := max(job.runtime.batch for job in self.jobs)):
            ready = self._find_ready(may_wait=not pending)
            if not ready:
                break
            for job in ready[: batch - len(pending)]:
                slot = self._receive(job)
                if slot is not None:
                    pending.append(_Pending(job, slot))
        return pending

    def _find_ready(self, may_wait: bool) -> list[_Job]:
        """Find jobs whose decoder has sent something, or timed out."""
        timeout = max(0.0, min(job.decoder.seconds_left for job in self.jobs)) if may_wait else 0.0
        readable = wait([job.decoder.connection for job in self.jobs], timeout)
        timed_out = may_wait and not readable
        return [job for job in self.jobs if job.decoder.connection in readable or (timed_out and _is_hung(job))]

    def _receive(self, job: _Job) -> int | None:
        """The job's next slot; None if there is none yet, or its video has ended or failed."""
        try:
            received = job.decoder.receive()
            if received is None or isinstance(received, int):
                return received
            record, problems = job.finish(received)
        except DecoderLost as error:
            self._drop(job, error)
            self._retry(job, error)
        except Exception as error:
            self._drop(job, error)
            self._report(job.video, error)
        else:
            self._warn(job.video, problems)
            self._close(job, record)
        return None

    def _retry(self, job: _Job, error: DecoderLost) -> None:
        """Restart the video once, with the most tolerant reader."""
        if job.task.retried:
            self._report(job.video, error)
        else:
            request = replace(job.task.request, backend=AUTO, num_frames=error.num_frames)
            self._begin(replace(job.task, request=request, retried=True))

    def _encode(self, pending: list[_Pending]) -> None:
        """Encode one batch per runtime (there is one for each set of missing scales)."""
        for runtime in {id(job.runtime): job.runtime for job, _ in pending}.values():
            batch = [(job, slot) for job, slot in pending if job.runtime is runtime]
            for (job, slot), features in zip(batch, self._encode_batch(runtime, batch), strict=True):
                self._append(job, slot, features)

    def _encode_batch(self, runtime: Runtime, batch: list[tuple[_Job, int]]) -> list[Features]:
        snippets = [job.decoder.snippet(slot) for job, slot in batch]
        if self.writer.config.reuse_static:
            return [job.reuse.encode(snippet) for (job, _), snippet in zip(batch, snippets, strict=True) if job.reuse]
        features = runtime.encode_snippets(snippets[0][None] if len(snippets) == 1 else np.stack(snippets))
        return [{scale: array[i : i + 1] for scale, array in features.items()} for i in range(len(snippets))]

    def _append(self, job: _Job, slot: int, features: Features) -> None:
        if job not in self.jobs:
            return  # dropped earlier in this batch
        try:
            job.append(features, slot)
        except Exception as error:
            self._drop(job, error)
            self._report(job.video, error)
        else:
            self.watcher.snippet_done(job.video.id, job.num_rows)

    def _close(self, job: _Job, record: StoredVideo) -> None:
        self.jobs.remove(job)
        self.idle.append(job.decoder)
        self.summary.add(record)
        self.summary.num_snippets += job.num_rows
        self.watcher.video_done(record, time.monotonic() - job.start)

    def _drop(self, job: _Job, error: Exception) -> None:
        self.jobs.remove(job)
        job.abandon(error)
        self.idle.append(job.decoder)

    def _report(self, video: Video, error: Exception) -> None:
        if _is_disk_full(error):
            raise UserError(
                f"disk full: cannot write {video.id} to {self.writer.root}; free some space, then rerun the command: "
                f"it skips the videos already extracted"
            ) from error
        reason = describe_error(error)
        if get_video_path(self.writer.root, video.id).is_file():
            reason += f" ({KEPT})"
        self.summary.failed[video.id] = reason
        self.watcher.video_failed(video.id, reason)


def _is_hung(job: _Job) -> bool:
    return job.decoder.seconds_left <= 0


def make_record(video: Video, decoded: Decoded, reused_cubes: int = 0) -> StoredVideo:
    """The store's record of an annotated video, without its source."""
    return StoredVideo(
        video,
        decoded.num_frames,
        decoded.fps,
        substituted_frames=decoded.substituted_frames,
        missing_frames=decoded.missing_frames,
        rows=decoded.rows,
        reused_cubes=reused_cubes,
    )


def _is_disk_full(error: Exception) -> bool:
    """Whether the disk is full: HDF5 says so only in its message, often after closing the file failed too."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(e, OSError) and (e.errno in full or "No space left" in str(e)) for e in causes)
