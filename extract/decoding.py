"""Decoding in a process of its own, one step ahead of the encoder.

    worker: reader ── frames ── resize ──▶ slot (L, H, W, 3) in shared memory     main: ──▶ tiles ──▶ encoder
            ◀───────────────── slot is free again ─────────────────────────────────────────────┘

A decoder that hangs or crashes takes its worker along, not the run: the worker is killed, and the caller may begin the
video anew. Slots bound the memory; a reader lives for one video. The worker is spawned, never forked, and opens
readers itself, since decoders do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ssrl.errors import UserError
from ssrl.extract.readers import AUTO, DecoderStopped, open_reader
from ssrl.extract.snippets import fill_snippets
from ssrl.geometry import Geometry

NUM_SLOTS = 3  # snippets decoded ahead
TIME_LIMIT_SECONDS = 120.0  # for one snippet


@dataclass(frozen=True)
class Decoded:
    """What is known of a video once all of it was decoded."""

    num_frames: int
    fps: float | None
    substituted_frames: int


class DecoderLost(UserError):
    """The decoder hung, died, or cannot be trusted with this video. What it gave so far must be dropped."""


class Decoder:
    """Decodes one video at a time; `snippets` yields them, `last` then tells about the whole."""

    def __init__(self, geometry: Geometry, time_limit_seconds: float = TIME_LIMIT_SECONDS) -> None:
        self.geometry = geometry
        self.time_limit_seconds = time_limit_seconds
        self.last: Decoded | None = None
        snippet_bytes = geometry.frames_per_snippet * geometry.height * geometry.width * 3
        self._context = multiprocessing.get_context("spawn")
        self._memory = self._context.RawArray("B", NUM_SLOTS * snippet_bytes)
        self._slots = _slots(self._memory, geometry)
        self._process: Any = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self._kill()

    def snippets(self, path: Path, backend: str = AUTO) -> Iterator[np.ndarray]:
        """The snippets (L, H, W, 3) uint8 of a video, in order. Each is valid until the next one is asked for.

        Raises a UserError for what cannot be read, and DecoderLost where another attempt may do better.
        """
        self._start()
        done = False
        try:
            self._connection.send((path, backend))
            while True:
                kind, value = self._receive(path)
                if kind == "snippet":
                    yield self._slots[value]
                    self._connection.send(value)
                elif kind == "end":
                    self.last, done = value, True
                    return
                else:
                    done = True
                    raise DecoderLost(value) if kind == "lost" else UserError(value)
        finally:
            if not done:  # the worker is in the middle of this video
                self._kill()

    def _receive(self, path: Path) -> tuple[str, Any]:
        try:
            if self._connection.poll(self.time_limit_seconds):
                return self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            crash = f"its decoder crashed (exit code {self._process.exitcode})"
            raise DecoderLost(f"{path}: {crash}; re-encode the video, or leave it out") from error
        silence = f"its decoder gave nothing for {self.time_limit_seconds:g} seconds"
        raise DecoderLost(f"{path}: {silence}; re-encode the video, or leave it out")

    def _start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self._connection, theirs = self._context.Pipe()
        arguments = (theirs, self._memory, self.geometry)
        self._process = self._context.Process(target=_work, args=arguments, daemon=True, name="decoder")
        self._process.start()
        theirs.close()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _work(connection: Connection, memory: Any, geometry: Geometry) -> None:
    """The worker: takes (path, backend), answers ("snippet", slot)..., then how it ended:
    ("end", Decoded), ("error", text) for what cannot be read, ("lost", text) where another decoder may do better.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    import torch

    torch.set_num_threads(1)
    slots = _slots(memory, geometry)
    while True:
        try:
            path, backend = connection.recv()
        except EOFError:
            return
        connection.send(_decode(connection, path, backend, slots, geometry))


def _decode(
    connection: Connection, path: Path, backend: str, slots: np.ndarray, geometry: Geometry
) -> tuple[str, Decoded | str]:
    free = list(range(len(slots)))
    num_frames, given_out = 0, 0

    def next_slots() -> Iterator[np.ndarray]:
        nonlocal given_out
        while True:
            if given_out == len(slots):
                free.append(connection.recv())
                given_out -= 1
            yield slots[free[0]]

    try:
        with open_reader(path, backend) as reader:
            for filled in fill_snippets(reader.frames(), geometry, next_slots()):
                num_frames += filled
                connection.send(("snippet", free.pop(0)))
                given_out += 1
            return "end", Decoded(num_frames, reader.fps, reader.substituted_frames)
    except DecoderStopped as error:
        return "lost", str(error)
    except UserError as error:
        return "error", str(error)
    finally:
        for _ in range(given_out):  # the main process gives every slot back before it hears how it ended
            connection.recv()


def _slots(memory: Any, geometry: Geometry) -> np.ndarray:
    """The shared memory as (slots, L, H, W, 3)."""
    shape = (NUM_SLOTS, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
    return np.frombuffer(memory, dtype=np.uint8).reshape(shape)
