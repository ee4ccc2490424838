"""A folder: events.jsonl, and of each event a clip and a picture.

events.jsonl               a line per event opened or closed, and per change of the connection
ID.jpg                     the hottest snippet so far with its heatmap
ID.mp4                     from some seconds before to some after
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ssrl.files import check_output, replacing
from ssrl.watch.clips import write_clip
from ssrl.watch.notices import Kind, Notice
from ssrl.watch.sinks.base import Camera, SinkAway, SinkRefused

LIST = "events.jsonl"


class FolderSink:
    """See `Sink`."""

    kinds: frozenset[Kind] = frozenset({"opened", "closed", "clip", "connection"})

    def __init__(self, address: str, camera: Camera) -> None:
        self._folder = Path(address.removeprefix("folder:"))
        check_output(self._folder, is_folder=True)
        self._folder.mkdir(parents=True, exist_ok=True)

    def deliver(self, notice: Notice) -> None:
        try:
            self._write(notice)
        except OSError as error:
            reason = f"{self._folder}: {error.strerror or error}"
            away = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOENT, errno.EACCES)
            raise (SinkAway if away else SinkRefused)(reason) from error

    def close(self) -> None:
        pass

    def _write(self, notice: Notice) -> None:
        if notice.clip is not None:
            write_clip(self._folder / f"{notice.event_id}.mp4", notice.clip)
        if notice.picture is not None:
            with replacing(self._folder / f"{notice.event_id}.jpg") as temporary:
                temporary.write_bytes(notice.picture)
        if notice.kind != "clip":
            self._append(notice.text.encode() + b"\n")

    def _append(self, line: bytes) -> None:
        """Append a whole line, or nothing."""
        descriptor = os.open(self._folder / LIST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
