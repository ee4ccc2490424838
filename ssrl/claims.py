"""Sharing work between processes, on one machine or on several with one file system: one lock file a piece of work.

A lock holds "host:pid" and is touched every few seconds for as long as its holder lives. A lock that was not touched
for ten minutes is abandoned; so is, at once, one whose process is gone from this host.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REFRESH_SECONDS = 5.0
ABANDONED_SECONDS = 600.0


class ClaimLost(Exception):
    """Another process holds what this one held: it was away for longer than a lock lasts (asleep, or cut off)."""


class Claim:
    """A lock that this process holds, kept fresh by a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lost, self._ends = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises ClaimLost where the lock is another's by now."""
        if self._lost.is_set():
            raise ClaimLost(f"{self.path} is held by another process now")

    def release(self) -> None:
        self._ends.set()
        self._thread.join()
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def _keep_fresh(self) -> None:
        while not self._ends.wait(REFRESH_SECONDS):
            if not self._is_ours():
                self._lost.set()
                return
            with suppress(OSError):
                os.utime(self.path)

    def _is_ours(self) -> bool:
        try:
            return self.path.read_text() == _owner()
        except FileNotFoundError:
            return False
        except OSError:  # a file system that is away for a moment has taken nothing from us
            return True


@contextmanager
def claim(path: Path) -> Iterator[Claim | None]:
    """Hold the lock at `path` while the block runs. Yields None where a living process holds it.

    A process claims a path once at a time: to itself, a lock with its own host and pid is that of a dead namesake.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _take(path):
        yield None
        return
    held = Claim(path)
    try:
        yield held
    finally:
        held.release()


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}\n"


def _take(path: Path) -> bool:
    return _create(path) or (_remove_if_abandoned(path) and _create(path))


def _create(path: Path) -> bool:
    """Whether the lock was not there and is ours now."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(_owner())
    return True


def _remove_if_abandoned(path: Path) -> bool:
    """Renamed first, since of several processes only one can rename a file. Where another was faster, and it is its
    fresh lock that we have moved, it is put back.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        seen = path.stat()
        if not _is_abandoned(path.read_text(), seen.st_mtime):
            return False
        path.rename(aside)
    except FileNotFoundError:  # released, or taken over, in this moment
        return False
    moved = aside.stat()
    abandoned = (moved.st_ino, moved.st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns)
    if not abandoned:
        with suppress(OSError):  # a third was faster still: whose lock is gone notices that within seconds
            os.link(aside, path)
    aside.unlink()
    return abandoned


def _is_abandoned(owner: str, touched: float) -> bool:
    """`touched` in seconds since the epoch."""
    if time.time() - touched > ABANDONED_SECONDS:
        return True
    host, _, pid = owner.strip().rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and not _is_another_alive(int(pid))


def _is_another_alive(pid: int) -> bool:
    """Whether a process of this number, other than this one, runs on this host."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
