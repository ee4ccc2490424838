"""The tables of videos that a store was filled from: videos that none of them names any more are left out.

    <store>/tables/<hash>.json      {"table": "manifest videos.csv", "videos": ["gate/monday", ...]}

A table that is read again replaces its earlier list, so a removed row is noticed. A store without tables, as scripts
write it, has no videos to leave out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssrl.errors import UserError
from ssrl.files import write_json
from ssrl.plain import from_plain, to_plain

FOLDER = "tables"


@dataclass(frozen=True)
class Table:
    """The ids that a manifest, or a dataset's lists, name."""

    table: str
    videos: tuple[str, ...]


def write_table(root: Path, name: str, video_ids: Iterable[str]) -> None:
    """Record the videos that a table names. Many hosts may write the same list."""
    table = Table(name, tuple(sorted(set(video_ids))))
    path = root / FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    if not path.is_file() or _read(path) != table:
        write_json(path, to_plain(table))


def read_named_ids(root: Path) -> set[str] | None:
    """The ids that the tables name; None if there is no table."""
    tables = [_read(path) for path in sorted((root / FOLDER).glob("*.json"))]
    return {video_id for table in tables for video_id in table.videos} if tables else None


def _read(path: Path) -> Table:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it, and run the command that filled the store again"
        ) from error
    return from_plain(Table, value, path)
