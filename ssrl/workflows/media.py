"""Pictures, players, events and clips of scored videos, below one folder:

heatmaps/<id>-<frame>.jpg   heatmaps over the frames of the most suspicious snippets
events/<id>.json            when and where the score is high
overlays/<id>.mp4           the video with its heat and its score
timelines/<id>.png          the score over time, with the events
clips/<id>/event-01.mp4     each event as a part of the video
made_from/<kind>/<id>.json  what these were made from, written last: a later run makes what is missing or out of date
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssrl.checkpoints import Checkpoint
from ssrl.errors import UserError
from ssrl.evaluate.events import Event, find_events
from ssrl.evaluate.plots import plot_scores
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.report.media import Media
from ssrl.evaluate.scoring import select_top_snippets
from ssrl.evaluate.zones import Zones
from ssrl.extract.readers import open_reader
from ssrl.extract.snippets import resize
from ssrl.faults import describe_error
from ssrl.files import replacing
from ssrl.media.clips import FORMATS, copy_clip
from ssrl.media.encoding import TICKS, can_encode, encode_video, list_times
from ssrl.plain import to_plain
from ssrl.store.reader import Store
from ssrl.workflows.events import LocatedEvent, read_events, write_events
from ssrl.workflows.heat import HeatMaker
from ssrl.workflows.origin import Origin, hash_checkpoint, identify_video, read_made, write_made
from ssrl.workflows.overlays import Wish, draw_video

logger = logging.getLogger(__name__)
HEATMAPS_PER_VIDEO = 3
HEATMAP_FOLDER, EVENT_FOLDER, OVERLAY_FOLDER = "heatmaps", "events", "overlays"
TIMELINE_FOLDER, CLIP_FOLDER, NOTE_FOLDER = "timelines", "clips", "made_from"
CLIP_MARGIN_SECONDS = 2.0
TIMELINE_DPI = 120
T = TypeVar("T")


@dataclass(frozen=True)
class MediaKinds:
    """What to make of each video, beside its events."""

    pictures: bool = True
    overlay: bool = True
    clips: bool = True
    timeline: bool = True


@dataclass(frozen=True)
class VideoMedia:
    """What was made of a video."""

    media: Media = field(default_factory=Media)
    events: tuple[LocatedEvent, ...] = ()


def write_media(
    folder: Path,
    store: Store,
    videos: Sequence[VideoScores],
    checkpoint: Checkpoint,
    heat: HeatMaker,
    kinds: MediaKinds | None = None,
    zones: Zones | None = None,
) -> dict[str, VideoMedia]:
    """Make the media of videos below `folder`; returns them by video id. What fails is left out with a warning."""
    maker = _MediaMaker(folder, store, heat, hash_checkpoint(checkpoint), _check_kinds(kinds or MediaKinds()), zones)
    imported = [video.id for video in videos if video.record.imported]
    if imported:
        logger.info(f"no pictures of {len(imported)} videos: their features were imported without the videos")
    return {video.id: maker.make(video) for video in videos}


def _check_kinds(kinds: MediaKinds) -> MediaKinds:
    if (kinds.overlay or kinds.clips) and not can_encode():
        logger.warning("no overlays, and no clips of folders of frames: this build of PyAV has no libx264")
        return MediaKinds(kinds.pictures, False, kinds.clips, kinds.timeline)
    return kinds


@dataclass(frozen=True)
class _MediaMaker:
    folder: Path
    store: Store
    heat: HeatMaker
    checkpoint: str
    kinds: MediaKinds
    zones: Zones | None

    def make(self, video: VideoScores) -> VideoMedia:
        found = find_events(video)
        origin = Origin(self.checkpoint, identify_video(video.record), self._describe(video))
        events = tuple(LocatedEvent.of(video, event) for event in found)
        pictures: list[Path] = []
        player: Path | None = None
        clips: list[Path | None] = [None] * len(events)
        if not video.record.imported:
            drawn = self._attempt("pictures", video, lambda: self._draw(video, found, events, origin))
            if drawn is None:
                write_events(self._place(EVENT_FOLDER, video, ".json"), events)
            else:
                pictures, player, events = drawn
            if self.kinds.clips:
                clips = self._attempt("clips", video, lambda: self._cut(video, events, origin)) or clips
        if self.kinds.timeline:
            self._attempt("timeline", video, lambda: self._plot(video, events))
        return VideoMedia(Media(pictures, player, found, clips), events)

    def _attempt(self, what: str, video: VideoScores, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Exception as error:  # of this video alone
            logger.warning(f"no {what} of {video.id}: {describe_error(error)}")
            return None

    def _describe(self, video: VideoScores) -> dict[str, Any]:
        """The settings that the results depend on."""
        return {
            "threshold": video.threshold,
            "heat": self.heat.where,
            "traced": self.heat.encoder is not None,
            "features": self.store.config.fingerprint,
            "zones": to_plain(self.zones),
        }

    def _place(self, folder: str, video: VideoScores, suffix: str) -> Path:
        return self.folder / folder / f"{video.id}{suffix}"

    def _draw(
        self, video: VideoScores, found: Sequence[Event], events: tuple[LocatedEvent, ...], origin: Origin
    ) -> tuple[list[Path], Path | None, tuple[LocatedEvent, ...]]:
        """Make what is missing of heatmaps, overlay and places: they share one pass over the video."""
        overlay = self._place(OVERLAY_FOLDER, video, ".mp4")
        listed = self._place(EVENT_FOLDER, video, ".json")
        wanted = {HEATMAP_FOLDER: self.kinds.pictures, OVERLAY_FOLDER: self.kinds.overlay, EVENT_FOLDER: True}
        made = {kind: self._find_made(kind, video, origin) for kind, is_wanted in wanted.items() if is_wanted}
        missing = [kind for kind, files in made.items() if files is None]
        wish = Wish(
            select_top_snippets(video.scores, HEATMAPS_PER_VIDEO) if HEATMAP_FOLDER in missing else (),
            {event.peak for event in found} if EVENT_FOLDER in missing else (),
            self.folder / HEATMAP_FOLDER,
            overlay if OVERLAY_FOLDER in missing else None,
        )
        network, geometry = self.heat.network, self.store.config.geometry
        with self.store.open_video(video.id, network.config.scales) as (features, _):
            watched = self.zones.apply(video.id, features, network, geometry) if self.zones else features
            drawn = draw_video(video, events, watched, self.heat, wish)
        if EVENT_FOLDER in missing:
            boxes = [drawn.boxes.get(event.peak) for event in found]
            write_events(listed, [replace(event, box=box) for event, box in zip(events, boxes, strict=True)])
        files = {HEATMAP_FOLDER: drawn.stills, OVERLAY_FOLDER: [overlay], EVENT_FOLDER: [listed]}
        for kind in missing:
            made[kind] = files[kind]
            write_made(self._note(kind, video), self.folder, origin, files[kind])
        return made.get(HEATMAP_FOLDER) or [], overlay if self.kinds.overlay else None, read_events(listed)

    def _cut(self, video: VideoScores, events: Sequence[LocatedEvent], origin: Origin) -> list[Path | None]:
        """One clip per event; None for those that cannot be made."""
        made = self._find_made(CLIP_FOLDER, video, origin)
        if made is not None:
            return [*made]
        folder = self._place(CLIP_FOLDER, video, "")
        for path in [path for suffix in FORMATS for path in folder.glob(f"event-*{suffix}")]:
            path.unlink()
        clips = [
            self._attempt(f"clip {number}", video, partial(cut_event, video, event, folder / f"event-{number:02d}"))
            for number, event in enumerate(events, start=1)
        ]
        files = [clip for clip in clips if clip is not None]
        if len(files) == len(clips):
            write_made(self._note(CLIP_FOLDER, video), self.folder, origin, files)
        return clips

    def _find_made(self, kind: str, video: VideoScores, origin: Origin) -> list[Path] | None:
        """The files that an earlier run made from the same; None if they are not there, and then no note of them is."""
        made = read_made(self._note(kind, video), self.folder, origin)
        if made is None:
            self._note(kind, video).unlink(missing_ok=True)
            return None
        return [self.folder / name for name in made["files"]]

    def _note(self, kind: str, video: VideoScores) -> Path:
        return self.folder / NOTE_FOLDER / kind / f"{video.id}.json"

    def _plot(self, video: VideoScores, events: Sequence[LocatedEvent]) -> None:
        figure = plot_scores(video, [(event.start_frame, event.stop_frame) for event in events])
        with replacing(self._place(TIMELINE_FOLDER, video, ".png")) as temporary:
            figure.savefig(temporary, format="png", dpi=TIMELINE_DPI)


def cut_event(video: VideoScores, event: LocatedEvent, stem: Path) -> Path:
    """Write an event with some seconds around it to `stem` and a suffix; returns the file. A video file is copied from
    a key frame on, without loss; a folder of frames, and what cannot be copied, is encoded.
    """
    source = video.record.video.path
    if source.is_file() and event.start_seconds is not None and event.stop_seconds is not None:
        start, stop = max(0.0, event.start_seconds - CLIP_MARGIN_SECONDS), event.stop_seconds + CLIP_MARGIN_SECONDS
        try:
            return copy_clip(source, stem, start, stop)
        except UserError as error:
            logger.info(str(error))
    return _encode_event(video, event, stem.with_name(f"{stem.name}.mp4"))


def _encode_event(video: VideoScores, event: LocatedEvent, path: Path) -> Path:
    seconds = None if video.timeline is None else video.timeline.starts
    times = list_times(video.num_frames, seconds) / TICKS
    first = int(np.searchsorted(times, times[event.start_frame] - CLIP_MARGIN_SECONDS))
    last = int(np.searchsorted(times, times[event.stop_frame - 1] + CLIP_MARGIN_SECONDS, side="right"))
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(video.record.video.path))
        write: Callable[[np.ndarray], None] | None = None
        for frame in islice(reader.frames(), first, last):
            height, width = (max(2, side // 2 * 2) for side in frame.shape[:2])
            if write is None:
                size = height, width
                ticks = list_times(last - first, times[first:last] - times[first])
                write = stack.enter_context(encode_video(path, *size, ticks))
            write(resize(frame, *size))
    return path
