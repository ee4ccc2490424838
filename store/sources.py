"""What features were made from: whether a source is still what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ssrl.store.layout import StoredVideo

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """The files of one video: a video file, a folder of frames, or feature arrays."""

    files: tuple[Path, ...]
    num_bytes: int
    modified: int  # the latest modification time of a file, in nanoseconds

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Source:
        """Look at files and folders. Raises an OSError if one cannot be read."""
        files = [file for path in paths for file in (_list_frames(path) if path.is_dir() else [path])]
        states = [file.stat() for file in files]
        newest = max((state.st_mtime_ns for state in states), default=0)
        return cls(tuple(files), sum(state.st_size for state in states), newest)

    @cached_property
    def sha256(self) -> str:
        """Hash the content, and the names of frames, whose order they determine."""
        digest = hashlib.sha256()
        for file in self.files:
            if len(self.files) > 1:
                digest.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
            with file.open("rb") as opened:
                while block := opened.read(BLOCK_BYTES):
                    digest.update(block)
        return digest.hexdigest()

    def remember(self) -> None:
        """Hash the content now, before it is decoded, so that what replaces it meanwhile is noticed later."""
        _ = self.sha256

    def made(self, stored: StoredVideo) -> bool:
        """Whether the features of `stored` were made from this. It is read only if its time differs, not its size."""
        if not stored.source_sha256:  # of an earlier version
            return stored.source_bytes in (0, self.num_bytes)
        if stored.source_bytes != self.num_bytes:
            return False
        return stored.source_modified == self.modified or stored.source_sha256 == self.sha256

    def record(self, video: StoredVideo) -> StoredVideo:
        """Record this as what the features of a video were made from."""
        if video.source_sha256 and (video.source_bytes, video.source_modified) == (self.num_bytes, self.modified):
            return video
        return replace(video, source_bytes=self.num_bytes, source_modified=self.modified, source_sha256=self.sha256)


def has_changed(stored: StoredVideo) -> bool:
    """Whether a video is there and is no longer what its features were made from. Files that are gone tell nothing."""
    try:
        return not stored.imported and not Source.of([stored.video.path]).made(stored)
    except OSError:
        return False


def _list_frames(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
