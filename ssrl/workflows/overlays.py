"""One pass over a video: heatmaps over still frames, the places of its events, and a video with its heat.

frames ── snippets ──┬── heat, of snippets worth it ──┬── stills, boxes
                     └────────────────────────────────┴── overlay.mp4, one snippet behind
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssrl.evaluate.events import choose_release
from ssrl.evaluate.heatmaps import draw_overlay
from ssrl.evaluate.localization import Box, Moment, find_hottest_region
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.scoring import Features
from ssrl.extract.readers import open_reader
from ssrl.extract.snippets import resize
from ssrl.files import replacing
from ssrl.geometry import Geometry
from ssrl.media.encoding import encode_video, list_times
from ssrl.media.overlay import OverlayDrawer, fit_size
from ssrl.media.panel import Curve, Panel, choose_panel_height
from ssrl.workflows.events import LocatedEvent, find_peak_frame
from ssrl.workflows.heat import HeatMaker

JPEG_QUALITY = 88
COARSENESS = 4  # heat is smooth: it is made at a fraction of the frame's height and width
STRENGTH_AT_THRESHOLD = 0.7  # of the heat in an overlay; none where an event would end, all of it at a score of 1


@dataclass(frozen=True)
class Wish:
    """What to make of a video. Snippets are counted from 0."""

    stills: Sequence[int] = ()  # snippets whose middle frames become pictures
    places: Collection[int] = ()  # snippets whose hottest regions are asked for
    folder: Path = Path()  # of the stills
    overlay: Path | None = None


@dataclass
class Drawn:
    """What was made."""

    stills: list[Path] = field(default_factory=list)
    boxes: dict[int, Box | None] = field(default_factory=dict)  # by snippet


def draw_video(
    video: VideoScores, events: Sequence[LocatedEvent], features: Mapping[int, Features], heat: HeatMaker, wish: Wish
) -> Drawn:
    """Read a video once, as far as needed. Raises a UserError or an OSError if it cannot be read."""
    drawn = Drawn()
    asked = {*wish.stills, *wish.places}
    if not asked and wish.overlay is None:
        return drawn
    strengths = compute_strengths(video) if wish.overlay is not None else np.zeros(len(video.scores))
    warm = asked | set(np.flatnonzero(strengths).tolist())
    last = len(video.scores) if wish.overlay is not None else max(asked) + 1
    size = heat.geometry.height // COARSENESS, heat.geometry.width // COARSENESS
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(video.record.video.path))
        frames = islice(reader.frames(), video.num_frames)
        overlay = None if wish.overlay is None else stack.enter_context(_Overlay(wish.overlay, video, events))
        shrink = None if overlay is None else overlay.shrink
        for snippet, (pixels, pictures) in enumerate(_read_snippets(frames, last, heat.geometry, warm, shrink)):
            heats = None if pixels is None else heat.make(Moment.of(features, snippet), pixels, size)
            if heats is not None and pixels is not None:
                middle = find_peak_frame(video, snippet) - int(video.frame_bounds[snippet])
                at_middle = heats[middle * len(heats) // heat.geometry.frames_per_snippet]
                if snippet in wish.places:
                    drawn.boxes[snippet] = find_hottest_region(at_middle)
                if snippet in wish.stills:
                    drawn.stills.append(_write_still(wish.folder, video, snippet, pixels[middle], at_middle))
            if overlay is not None:
                faded = None if heats is None or not strengths[snippet] else strengths[snippet] * heats
                overlay.add(pictures, faded)
        if overlay is not None:
            overlay.finish()
    return drawn


def compute_strengths(video: VideoScores) -> np.ndarray:
    """How strong the heat of each snippet is (T,), in 0..1: none below the score that ends an event."""
    knots = [choose_release(video.threshold), video.threshold, max(1.0, video.threshold + 1e-6)]
    strengths: np.ndarray = np.interp(video.scores, knots, [0, STRENGTH_AT_THRESHOLD, 1])
    return strengths


class _Overlay:
    """The overlay of one video, from its snippets in order; in a `with` block."""

    def __init__(self, path: Path, video: VideoScores, events: Sequence[LocatedEvent]) -> None:
        self._path, self._video = path, video
        seconds = None if video.timeline is None else video.timeline.starts
        spans = tuple((event.start_frame, event.stop_frame) for event in events)
        self._curve = Curve(video.scores, video.frame_bounds, video.threshold, spans, seconds)
        self._times = list_times(video.num_frames, seconds)
        self._stack = ExitStack()
        self._size: tuple[int, int] | None = None
        self._drawer: OverlayDrawer | None = None

    def __enter__(self) -> _Overlay:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def shrink(self, frame: np.ndarray) -> np.ndarray:
        """A frame as it is shown; the first one sets the size."""
        if self._size is None:
            panel_height = choose_panel_height(min(480, 2 * frame.shape[0]))
            self._size = fit_size(frame.shape[0], frame.shape[1], panel_height)
            height, width = self._size
            write = self._stack.enter_context(encode_video(self._path, height + panel_height, width, self._times))
            self._drawer = OverlayDrawer(self._curve, Panel(self._curve, width, panel_height), write)
        return resize(frame, *self._size)

    def add(self, pictures: Sequence[np.ndarray], heats: np.ndarray | None) -> None:
        if self._drawer is not None:
            self._drawer.add(pictures, heats, self._video.frames_per_snippet)

    def finish(self) -> None:
        """Draw the last snippet."""
        if self._drawer is not None:
            self._drawer.finish()


def _read_snippets(
    frames: Iterator[np.ndarray],
    count: int,
    geometry: Geometry,
    wanted: Collection[int],
    shrink: Callable[[np.ndarray], np.ndarray] | None,
) -> Iterator[tuple[np.ndarray | None, list[np.ndarray]]]:
    """The first `count` snippets: (L, H, W, 3) uint8, padded as for the encoder, None if not wanted; and their frames,
    shrunk.
    """
    for snippet in range(count):
        pixels: list[np.ndarray] = []
        pictures: list[np.ndarray] = []
        for frame in islice(frames, geometry.frames_per_snippet):
            if snippet in wanted:
                pixels.append(resize(frame, geometry.height, geometry.width))
            if shrink is not None:
                pictures.append(shrink(frame))
        padding = pixels[-1:] * (geometry.frames_per_snippet - len(pixels))
        yield (np.stack(pixels + padding) if pixels else None), pictures


def _write_still(folder: Path, video: VideoScores, snippet: int, frame: np.ndarray, heat: np.ndarray) -> Path:
    height, width, _ = frame.shape
    large = Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)
    index, score = find_peak_frame(video, snippet), float(video.scores[snippet])
    name = "".join(char if char.isprintable() else "?" for char in video.id)
    label = f"{name}  frame {index}  score {score:.2f}"
    image = draw_overlay(frame, np.clip(np.asarray(large), 0, 1), score, label)
    path = folder / f"{video.id}-{index:06d}.jpg"
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="JPEG", quality=JPEG_QUALITY)
    return path
