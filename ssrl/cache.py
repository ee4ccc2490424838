"""The cache folder: what we keep in it, and how it stays within a limit.

    compiled graphs    openvino/KEY/*.blob, inductor/torch-VERSION/
    training views     views/KEY/segments-32.h5, of stores that cannot be written to
    measurements       speed/KEY.json, which precision is the faster one
    fault logs         faults/TIME-PROCESS.txt
    downloads          weights/NAME.pyth with NAME.pyth.sha256

Whenever something was added (other than a fault log, which is small), entries are removed until the rest is within the
limit: the least recently used first, downloads only where nothing else is left. What was used within the last hour, or
since this process started, stays, even if that is more than the limit. An entry that another process has open can
still be read to its end.

A half-written file counts an hour after its last byte: its process was killed. Only names of these forms count and are
ever removed, so the folder may hold other files too. Symbolic links are neither followed nor removed.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ssrl.errors import UserError
from ssrl.files import TEMPORARY_MARK

logger = logging.getLogger(__name__)
GB = 10**9  # bytes
DEFAULT_LIMIT_GB = 10.0
SPARED_SECONDS = 3600.0  # after the last use
LEVELS = 2  # of an entry's path within the folder of its kind
STARTED = time.time()
_KEY, _PARTIAL = "[0-9a-f]{16}", rf"({re.escape(TEMPORARY_MARK)}[0-9a-f]{{8}})?"


@dataclass(frozen=True)
class Kind:
    """A folder of the cache. `names` is what the paths of its entries look like, seen from that folder."""

    title: str
    folder: str
    names: str  # regular expression
    is_folder: bool = False  # whether an entry is a folder, of use only as a whole, or a file
    companion: str | None = None  # the suffix of a second file, without which the first is no entry
    is_download: bool = False


KINDS = (
    Kind("compiled graphs", "openvino", rf"({_KEY}/)?\d+\.blob"),
    Kind("compiled graphs", "inductor", r"torch-\d[^/]*", is_folder=True),
    Kind("training views", "views", rf"{_KEY}/segments-\d+\.h5{_PARTIAL}"),
    Kind("measurements", "speed", rf"{_KEY}\.json{_PARTIAL}"),
    Kind("fault logs", "faults", rf"\d{{8}}-\d{{6}}-\d+\.txt{_PARTIAL}"),
    Kind("downloads", "weights", r"[^/]+\.py?th", companion=".sha256", is_download=True),
)


@dataclass(frozen=True)
class Entry:
    """What is removed as a whole."""

    kind: Kind
    path: Path
    size: int  # bytes
    last_used: float  # seconds since 1970


def get_cache_folder() -> Path:
    """$SSRL_CACHE, or ssrl below $XDG_CACHE_HOME, or ~/.cache/ssrl."""
    chosen = os.environ.get("SSRL_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ssrl"


def read_limit() -> int:
    """The bytes of $SSRL_CACHE_LIMIT, which is in GB."""
    try:
        return parse_limit(os.environ.get("SSRL_CACHE_LIMIT") or str(DEFAULT_LIMIT_GB))
    except UserError as error:
        raise UserError(f"SSRL_CACHE_LIMIT: {error}; correct it, or unset it for {DEFAULT_LIMIT_GB:g} GB") from error


def parse_limit(text: str) -> int:
    """Parse "2.5", in GB, into bytes."""
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UserError(f"{text!r} is no limit of the cache; allowed is a positive number of GB, such as 2.5")
    return round(limit * GB)


def mark_used(path: Path) -> None:
    """Note that an entry is used now: as a file's time of access, which not every file system keeps by itself, or as a
    folder's time of change.
    """
    now = time.time_ns()
    with suppress(OSError):  # it has vanished, or is another user's
        os.utime(path, ns=(now, now if path.is_dir() else path.stat().st_mtime_ns))


def keep_within_limit() -> None:
    """Remove what was not used for the longest time until the cache is within $SSRL_CACHE_LIMIT; see above."""
    limit = read_limit()
    removed = shrink_cache(limit, min(STARTED, time.time() - SPARED_SECONDS))
    if removed:
        logger.info(
            f"{len(removed)} least recently used entries of {get_cache_folder()} were removed to keep it within "
            f"{limit / GB:g} GB (SSRL_CACHE_LIMIT)"
        )


def shrink_cache(limit: int, spared_since: float = math.inf) -> list[Entry]:
    """Remove entries until the rest has at most `limit` bytes, sparing those used at `spared_since` or later.

    Returns what was removed.
    """
    entries = list_entries()
    excess, removed = sum(entry.size for entry in entries) - limit, []
    for entry in sorted(entries, key=lambda entry: (entry.kind.is_download, entry.last_used)):
        if excess <= 0:
            break
        if entry.last_used < spared_since and _remove(entry):
            removed.append(entry)
            excess -= entry.size
    return removed


def clear_cache() -> list[Entry]:
    """Remove everything but downloads. Returns what was removed."""
    return [entry for entry in list_entries() if not entry.kind.is_download and _remove(entry)]


def list_entries() -> list[Entry]:
    """Everything of ours in the cache."""
    entries = []
    for kind in KINDS:
        folder = get_cache_folder() / kind.folder
        paths = [path for path in _walk(folder, LEVELS) if re.fullmatch(kind.names, str(path.relative_to(folder)))]
        entries += [entry for path in paths if (entry := _measure(kind, path)) is not None]
    return entries


def _walk(folder: Path, levels: int) -> Iterator[Path]:
    """All files and folders down to so many levels, without links and what they lead to."""
    try:
        found = [] if folder.is_symlink() else list(os.scandir(folder))
    except OSError:  # there is none, or it has vanished
        return
    for each in found:
        if not each.is_symlink():
            yield Path(each.path)
            if levels > 1 and each.is_dir(follow_symlinks=False):
                yield from _walk(Path(each.path), levels - 1)


def _measure(kind: Kind, path: Path) -> Entry | None:
    """None if it is no entry, is being written, or has vanished."""
    try:
        if path.is_dir() != kind.is_folder:
            return None
        statuses = [each.lstat() for each in _list_parts(kind, path)]
    except OSError:
        return None
    last_used = max(map(_get_last_use, statuses))
    if TEMPORARY_MARK in path.name and last_used > time.time() - SPARED_SECONDS:
        return None
    size = sum(status.st_size for status in statuses if not stat.S_ISDIR(status.st_mode))
    return Entry(kind, path, size, last_used)


def _list_parts(kind: Kind, path: Path) -> list[Path]:
    """The files of an entry, and the folder that holds them, if it is one."""
    if kind.is_folder:
        return [path, *(Path(folder) / name for folder, _, names in os.walk(path) for name in names)]
    return [path, path.with_name(path.name + kind.companion)] if kind.companion else [path]


def _get_last_use(status: os.stat_result) -> float:
    """Merely listing a folder changes its time of access."""
    return status.st_mtime if stat.S_ISDIR(status.st_mode) else max(status.st_atime, status.st_mtime)


def _remove(entry: Entry) -> bool:
    """Whether it is gone, be it by another process."""
    if entry.kind.is_folder:
        shutil.rmtree(entry.path, ignore_errors=True)
        return not entry.path.exists()
    try:
        for path in _list_parts(entry.kind, entry.path):
            path.unlink(missing_ok=True)
    except OSError:  # another user's
        return False
    return True
