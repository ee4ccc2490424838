"""Decoding in processes of their own, some steps ahead of the encoder.

    worker: reader ── frames ── resize ──▶ slot (L, H, W, 3) in shared memory     main: ──▶ encoder
            ◀───────────────── slot is free again ──────────────────────────────────────┘

A decoder that hangs or crashes takes its worker along, not the run: the worker is killed, and the caller may begin the
video anew. It counts as hung if no frame comes for so long; while frames come, the worker says so every second. Slots
bound the memory; a reader lives for one video. The worker is spawned, never forked, and opens readers itself, since
decoders do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ssrl.errors import UserError
from ssrl.extract.readers import AUTO, DecoderStopped, open_reader
from ssrl.extract.readers.times import read_packet_times
from ssrl.extract.snippets import fill_segments, fill_snippets, needs_segments
from ssrl.faults import describe_error
from ssrl.geometry import Geometry, Rows

NUM_SLOTS = 3  # snippets decoded ahead
TIME_LIMIT_SECONDS = 120.0  # without a frame
START_SECONDS = 60.0  # for a worker to start, if the limit is less
HEARTBEAT_SECONDS = 1.0


@dataclass(frozen=True)
class Request:
    """A video to decode: all its snippets, or, where it is long, one snippet spread over each of 32 segments."""

    path: Path
    backend: str = AUTO
    segments: bool = False
    num_frames: int | None = None  # as an earlier attempt counted them


@dataclass(frozen=True)
class Decoded:
    """What is known of a video once all of it was decoded."""

    num_frames: int
    fps: float | None
    substituted_frames: int
    missing_frames: int = 0  # that the file declares, and that did not come
    rows: Rows = "snippets"
    seconds: np.ndarray | None = field(default=None, compare=False)  # (F,) of each frame


@dataclass(frozen=True)
class Alive:
    """The worker has started, or frames come, though none for a slot."""


@dataclass(frozen=True)
class Filled:
    """A slot holds the next snippet."""

    slot: int


@dataclass(frozen=True)
class Failed:
    """The video cannot be read."""

    message: str


@dataclass(frozen=True)
class Lost:
    """This decoder cannot go on; another, or this one told the number of frames, may do better."""

    message: str
    num_frames: int | None = None


class DecoderLost(UserError):
    """The decoder hung, died, or cannot be trusted with this video. What it gave so far must be dropped."""

    num_frames: int | None = None  # as it counted them, where it began with another number


class Decoder:
    """Decodes one video at a time: `begin`, then `receive` slots, each to be given back, until it is `Decoded`."""

    def __init__(
        self, geometry: Geometry, num_slots: int = NUM_SLOTS, time_limit_seconds: float = TIME_LIMIT_SECONDS
    ) -> None:
        self.geometry = geometry
        self.num_slots = num_slots
        self.time_limit_seconds = time_limit_seconds
        self.connection: Connection
        self._context = multiprocessing.get_context("spawn")
        self._memory = self._context.RawArray("B", num_slots * snippet_bytes(geometry))
        self._slots = _slots(self._memory, geometry)
        self._process: Any = None
        self._path = Path()
        self._heard = 0.0
        self._has_started = False

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def begin(self, request: Request) -> None:
        if self._process is None or not self._process.is_alive():
            self._start()
        self._path = request.path
        self._heard = time.monotonic()
        self.connection.send(request)

    def receive(self) -> int | Decoded | None:
        """A filled slot, or how the video ended, once every slot was given back; None if it only goes on.

        Raises a UserError for what cannot be read, and DecoderLost where another attempt may do better.
        """
        try:
            if not self.connection.poll(max(0.0, self.seconds_left)):
                silence = f"its decoder gave no frame for {self.time_limit_seconds:g} seconds"
                raise DecoderLost(
                    f"{self._path}: {silence}; re-encode the video, leave it out, or allow more with --time-limit"
                )
            said: Alive | Filled | Decoded | Failed | Lost = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            crash = f"its decoder crashed (exit code {self._process.exitcode})"
            raise DecoderLost(f"{self._path}: {crash}; re-encode the video, or leave it out") from error
        self._heard = time.monotonic()
        self._has_started = True
        match said:
            case Alive():
                return None
            case Filled(slot):
                return slot
            case Decoded():
                return said
            case Failed(message):
                raise UserError(message)
            case Lost(message, num_frames):
                lost = DecoderLost(message)
                lost.num_frames = num_frames
                raise lost

    @property
    def seconds_left(self) -> float:
        """Until the decoder counts as hung. It cannot be heard while all of its slots wait to be given back."""
        limit = self.time_limit_seconds if self._has_started else max(self.time_limit_seconds, START_SECONDS)
        return self._heard + limit - time.monotonic()

    def snippet(self, slot: int) -> np.ndarray:
        """(L, H, W, 3) uint8, valid until the slot is given back."""
        return self._slots[slot, ...]

    def give_back(self, slot: int) -> None:
        self._heard = time.monotonic()
        if self._process is not None:
            self.connection.send(slot)

    def kill(self) -> None:
        """End the worker, whatever it is doing. The next `begin` starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        self.connection, theirs = self._context.Pipe()
        arguments = (theirs, self._memory, self.geometry)
        self._process = self._context.Process(target=_work, args=arguments, daemon=True, name="decoder")
        self._process.start()
        self._has_started = False
        theirs.close()


def snippet_bytes(geometry: Geometry) -> int:
    """Of one snippet (L, H, W, 3) uint8."""
    return geometry.frames_per_snippet * geometry.height * geometry.width * 3


def _work(connection: Connection, memory: Any, geometry: Geometry) -> None:
    """The worker: takes a Request, answers `Filled` for each snippet, then `Decoded`, `Failed` or `Lost`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    import torch

    torch.set_num_threads(1)
    slots = _slots(memory, geometry)
    connection.send(Alive())
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(_decode(connection, request, slots, geometry))


def _decode(connection: Connection, request: Request, slots: np.ndarray, geometry: Geometry) -> Decoded | Failed | Lost:
    free = list(range(len(slots)))
    given_out = 0
    heartbeat = _Heartbeat(connection)

    def next_slots() -> Iterator[np.ndarray]:
        nonlocal given_out
        while True:
            if given_out == len(slots):
                free.append(connection.recv())
                given_out -= 1
            yield slots[free[0]]

    try:
        counted = _count(request, heartbeat) if request.segments else 0
        rows: Rows = "segments" if needs_segments(counted, geometry) else "snippets"
        with open_reader(request.path, request.backend) as reader:
            frames = _Counter(heartbeat.pass_on(reader.frames()))
            filled_slots = (
                fill_segments(frames, counted, geometry, next_slots())
                if rows == "segments"
                else fill_snippets(frames, geometry, next_slots())
            )
            for _ in filled_slots:
                connection.send(Filled(free.pop(0)))
                given_out += 1
            if rows == "segments" and frames.count != counted:
                return Lost(f"{request.path} has {frames.count} frames, not {counted} as at first", frames.count)
            missing = max(0, (reader.declared_frames or 0) - frames.count)
            seconds = reader.seconds
            return Decoded(frames.count, reader.fps, reader.substituted_frames, missing, rows, seconds)
    except DecoderStopped as error:
        return Lost(str(error))
    except Exception as error:  # of this video alone
        return Failed(describe_error(error))
    finally:
        for _ in range(given_out):  # the main process gives every slot back before it hears how it ended
            connection.recv()


class _Heartbeat:
    """Says once a second that frames come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = time.monotonic()

    def pass_on(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            if time.monotonic() - self._last > HEARTBEAT_SECONDS:
                self._connection.send(Alive())
                self._last = time.monotonic()
            yield frame


class _Counter:
    """Counts the frames that pass."""

    def __init__(self, frames: Iterator[np.ndarray]) -> None:
        self._frames = frames
        self.count = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        frame = next(self._frames)
        self.count += 1
        return frame


def _count(request: Request, heartbeat: _Heartbeat) -> int:
    """Count the video's frames: its packets, where these tell, else by decoding. Its header may be wrong."""
    if request.num_frames is not None:
        return request.num_frames
    times = read_packet_times(request.path) if request.path.is_file() else None
    if times is not None:
        return len(times)
    with open_reader(request.path, request.backend) as reader:
        return sum(1 for _ in heartbeat.pass_on(reader.frames()))


def _slots(memory: Any, geometry: Geometry) -> np.ndarray:
    """The shared memory as (slots, L, H, W, 3)."""
    shape = (-1, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
    return np.frombuffer(memory, dtype=np.uint8).reshape(shape)
