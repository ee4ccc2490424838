"""A video's frames with its heat over them, and its score below.

    ┌──────────────────────────────┐
    │  the frame, warm where the   │   outlined during an event
    │  heat is                     │
    ├──────────────────────────────┤
    │ 0.93  ──╲__╱▔▔╲──|──  0:12.4 │   the score so far, bright; what is to come, dim
    └──────────────────────────────┘

Heat comes in moments, some per snippet, and is interpolated in between, so that it moves and does not flicker:

    frames    0 . . . . . . 15 16 . . . . . . 31
    moments     a   b   c   d    e   f   g   h        each at the middle of its frames
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import colormaps
from PIL import Image

from ssrl.media.panel import EVENT_COLOR, Curve, Panel

MAX_HEIGHT, MAX_WIDTH = 480, 854  # with the panel
MAX_ENLARGED = 2.0
COLORMAP = "inferno"
OPACITY = 0.7  # where the heat is 1
FAINT = 0.03  # heat below it is not drawn
OUTLINE = 3  # pixels


def _make_tables() -> tuple[np.ndarray, np.ndarray]:
    """For each heat of 0..255: how much of the pixel is kept (256,), and what is added (256, 3), in 1/256."""
    strength = np.arange(256) / 255
    opacity = np.where(strength > FAINT, OPACITY * (strength - FAINT) / (1 - FAINT), 0.0)
    color = colormaps[COLORMAP](0.3 + 0.55 * strength)[:, :3] * 255
    kept = 256 - np.rint(256 * opacity)
    return kept.astype(np.uint16), np.floor((256 - kept)[:, None] * color).astype(np.uint16)


KEPT, ADDED = _make_tables()


def fit_size(height: int, width: int, panel_height: int) -> tuple[int, int]:
    """The even size of the picture above the panel, of about the frame's shape."""
    room = MAX_HEIGHT - panel_height
    scale = min(room / height, MAX_WIDTH / width, MAX_ENLARGED)
    return max(2, int(scale * height) // 2 * 2), max(2, int(scale * width) // 2 * 2)


def blend_heat(picture: np.ndarray, heat: np.ndarray) -> None:
    """Blend heat (h, w) in 0..1 over a picture (H, W, 3) uint8, in place, however coarse the heat is."""
    rows, cols = (np.flatnonzero(heat.max(axis=axis) > FAINT) for axis in (1, 0))
    if not len(rows):
        return
    height, width = picture.shape[:2]
    top, bottom = _widen(rows, height / heat.shape[0], height)
    left, right = _widen(cols, width / heat.shape[1], width)
    levels = Image.fromarray(np.rint(255 * heat).astype(np.uint8))
    index = np.asarray(levels.resize((width, height), Image.Resampling.BILINEAR))[top:bottom, left:right]
    part = picture[top:bottom, left:right]
    part[...] = (part * KEPT[index][..., None] + ADDED[index]) >> 8


def _widen(places: np.ndarray, scale: float, end: int) -> tuple[int, int]:
    """From coarse to fine places, with one coarse step around, over which interpolation reaches."""
    return max(0, int((places[0] - 1) * scale)), min(end, int(np.ceil((places[-1] + 2) * scale)))


@dataclass
class HeatTrack:
    """The heat of a video as moments come: (position in frames, heat (h, w) or None: cold)."""

    moments: list[tuple[float, np.ndarray | None]] = field(default_factory=list)

    def add(self, start: int, num_frames: int, heats: np.ndarray | None) -> None:
        """Moments (f, h, w), spread evenly over the frames from `start` on; None: all of them are cold."""
        count = 1 if heats is None else len(heats)
        middles = start + (np.arange(count) + 0.5) * num_frames / count
        past = sum(middle < start - num_frames for middle, _ in self.moments)  # all but the last are done with
        kept = self.moments[max(0, past - 1) :]
        self.moments = [*kept, *zip(middles.tolist(), [None] if heats is None else heats, strict=True)]

    def at(self, frame: int) -> np.ndarray | None:
        """The heat at the middle of a frame that lies among the latest moments; None: cold."""
        place = frame + 0.5
        after = next((i for i, (middle, _) in enumerate(self.moments) if middle >= place), len(self.moments) - 1)
        (late, warm), (early, before) = self.moments[after], self.moments[max(0, after - 1)]
        share = min(1.0, (place - early) / (late - early)) if late > early else 1.0
        if warm is None and before is None:
            return None
        parts = [weight * heat for weight, heat in ((1 - share, before), (share, warm)) if heat is not None]
        total: np.ndarray = sum(parts[1:], parts[0])
        return total


class OverlayDrawer:
    """Draws the snippets of one video, in order, one snippet behind, and hands its frames to `write`."""

    def __init__(self, curve: Curve, panel: Panel, write: Callable[[np.ndarray], None]) -> None:
        self._curve, self._panel, self._write = curve, panel, write
        self._track = HeatTrack()
        self._waiting: Sequence[np.ndarray] = ()
        self._num_frames = 0

    def add(self, frames: Sequence[np.ndarray], heats: np.ndarray | None, frames_per_snippet: int) -> None:
        """Take a snippet's frames (H, W, 3) uint8 and its heat (f, h, w) in 0..1, already faded; None: cold."""
        self._track.add(self._num_frames + len(self._waiting), frames_per_snippet, heats)
        self.finish()
        self._waiting = frames

    def finish(self) -> None:
        """Draw the frames that wait for the moments after them."""
        for picture in self._waiting:
            self._write(self._draw(picture, self._num_frames))
            self._num_frames += 1
        self._waiting = ()

    def _draw(self, picture: np.ndarray, frame: int) -> np.ndarray:
        height, width, _ = picture.shape
        canvas = np.empty((height + self._panel.height, width, 3), np.uint8)
        canvas[:height] = picture
        heat = self._track.at(frame)
        if heat is not None:
            blend_heat(canvas[:height], heat)
        self._panel.draw(canvas[height:], frame)
        if self._curve.find_event(frame) is not None:
            _draw_outline(canvas[:height])
        return canvas


def _draw_outline(picture: np.ndarray) -> None:
    for edge in (picture[:OUTLINE], picture[-OUTLINE:], picture[:, :OUTLINE], picture[:, -OUTLINE:]):
        edge[...] = EVENT_COLOR
