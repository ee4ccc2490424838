"""What a result was made from, so that a later run knows whether it still holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrl.checkpoints import Checkpoint
from ssrl.files import write_json
from ssrl.plain import to_plain
from ssrl.store.layout import StoredVideo

VERSION = 1  # of how results are drawn and cut: one more where they come to look different


@dataclass(frozen=True)
class Origin:
    """A checkpoint, a video, and the settings."""

    checkpoint: str  # SHA-256 of its model
    video: str  # SHA-256 of its content, or what else tells it apart
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        value = {
            "checkpoint": self.checkpoint,
            "video": self.video,
            "settings": dict(self.settings),
            "version": VERSION,
        }
        plain: dict[str, Any] = json.loads(json.dumps(value))
        return plain


def hash_checkpoint(checkpoint: Checkpoint) -> str:
    """SHA-256 of the network: its configuration and weights."""
    digest = hashlib.sha256(json.dumps(to_plain(checkpoint.model), sort_keys=True).encode())
    for name, weight in sorted(checkpoint.weights.items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def identify_video(record: StoredVideo) -> str:
    return record.source_sha256 or f"{record.source_bytes} bytes, changed {record.source_modified}"


def read_made(note: Path, root: Path, origin: Origin) -> dict[str, Any] | None:
    """What `write_made` wrote; None if it was made from something else, is damaged, or lacks a file below `root`."""
    try:
        made = json.loads(note.read_text(encoding="utf-8"))
        if made["made_from"] == origin.to_json() and all((root / name).is_file() for name in made["files"]):
            return dict(made)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def write_made(note: Path, root: Path, origin: Origin, files: Sequence[Path]) -> None:
    """Write down, last of all, what `files` below `root` were made from."""
    names = [file.relative_to(root).as_posix() for file in files]
    write_json(note, {"files": names, "made_from": origin.to_json()})
