"""What a page shows of a video beside its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssrl.evaluate.events import Event


@dataclass(frozen=True)
class Media:
    """Files of one video, all inside the page's folder, and the events that they show."""

    pictures: Sequence[Path] = ()  # heatmaps over frames
    player: Path | None = None  # the video with its heatmap, H.264
    events: Sequence[Event] = ()
    clips: Sequence[Path | None] = ()  # one per event
