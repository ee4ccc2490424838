"""The strip below a video: its score now, the curve with the threshold and the events, the time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from ssrl.media.fonts import load_font

BACKGROUND, TEXT_COLOR = (18, 20, 26), (226, 229, 234)
CURVE_COLOR, THRESHOLD_COLOR, HEAD_COLOR = (122, 162, 247), (128, 134, 146), (245, 246, 248)
EVENT_COLOR = (232, 132, 60)
DIM = 0.45  # brightness of what is to come
SHARPER = 3  # the curve is drawn larger, then reduced


@dataclass(frozen=True, eq=False)
class Curve:
    """What a panel shows of a video of F frames: plain numbers."""

    scores: np.ndarray  # (T,) in 0..1
    bounds: np.ndarray  # (T + 1,) frames: score i holds from b_i to b_i+1
    threshold: float
    events: tuple[tuple[int, int], ...] = ()  # frames [start, stop)
    seconds: np.ndarray | None = None  # (F,) at which frames are shown; None: unknown

    @property
    def num_frames(self) -> int:
        return int(self.bounds[-1])

    @cached_property
    def frame_scores(self) -> np.ndarray:
        """(F,)"""
        return np.repeat(self.scores, np.diff(self.bounds))

    def find_event(self, frame: int) -> int | None:
        """The number, from 1, of the event that a frame belongs to."""
        return next((i for i, (start, stop) in enumerate(self.events, start=1) if start <= frame < stop), None)


class Panel:
    """Draws the strip of one video. Heights and widths are in pixels, even."""

    def __init__(self, curve: Curve, width: int, height: int) -> None:
        self.curve, self.width, self.height = curve, width, height
        self._font = load_font(max(9, height * 3 // 10))
        self._margin = max(4, height // 5)
        longest = max(self._font.getlength("0.00"), self._font.getlength(self._tell_time(curve.num_frames - 1)))
        text_width = int(longest) + 2 * self._margin
        has_room = width >= 4 * text_width
        self._left, self._right = (text_width, width - text_width) if has_room else (self._margin, width - self._margin)
        self._has_text = has_room
        self._bright = self._draw_curve()
        self._dim = (self._bright * DIM + np.array(BACKGROUND) * (1 - DIM)).astype(np.uint8)

    def draw(self, strip: np.ndarray, frame: int) -> None:
        """Draw the strip (height, width, 3) uint8 of one frame."""
        strip[...] = BACKGROUND
        length = self._right - self._left
        head = round((frame + 1) / self.curve.num_frames * length)
        strip[:, self._left : self._left + head] = self._bright[:, :head]
        strip[:, self._left + head : self._right] = self._dim[:, head:]
        place = min(max(self._left, self._left + head - 1), self._right - 2)
        strip[self._margin // 2 : -self._margin // 2, place : place + 2] = HEAD_COLOR
        if self._has_text:
            color = TEXT_COLOR if self.curve.find_event(frame) is None else EVENT_COLOR
            strip[:, : self._left] = self._draw_text(f"{self.curve.frame_scores[frame]:.2f}", color)
            strip[:, self._right :] = self._draw_text(self._tell_time(frame), TEXT_COLOR)

    def _tell_time(self, frame: int) -> str:
        """75.4 s → 1:15; without times, the frame's number."""
        if self.curve.seconds is None:
            return f"{frame}"
        minutes, seconds = divmod(int(self.curve.seconds[frame]), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

    @lru_cache(maxsize=64)  # noqa: B019 (a panel lives for one video)
    def _draw_text(self, text: str, color: tuple[int, int, int]) -> np.ndarray:
        image = Image.new("RGB", (self._left, self.height), BACKGROUND)
        ImageDraw.Draw(image).text((self._left / 2, self.height / 2), text, color, self._font, anchor="mm")
        return np.asarray(image)

    def _draw_curve(self) -> np.ndarray:
        """The whole curve, (height, length, 3)."""
        curve, length = self.curve, self._right - self._left
        size = (length * SHARPER, self.height * SHARPER)
        image = Image.new("RGB", size, BACKGROUND)
        draw = ImageDraw.Draw(image)
        top, bottom = self._margin * SHARPER, (self.height - self._margin) * SHARPER
        at_frame = size[0] / curve.num_frames
        for start, stop in curve.events:
            draw.rectangle((start * at_frame, top, stop * at_frame, bottom), _mix(EVENT_COLOR, 0.3))
            draw.rectangle((start * at_frame, bottom + SHARPER, stop * at_frame, bottom + 4 * SHARPER), EVENT_COLOR)
        x = np.repeat(curve.bounds * at_frame, 2)[1:-1]
        y = np.repeat(bottom - curve.scores * (bottom - top), 2)
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        draw.line(points, CURVE_COLOR, width=2 * SHARPER, joint="curve")
        level = bottom - curve.threshold * (bottom - top)
        dashes = np.arange(0, size[0], 5 * SHARPER)
        for start, stop in list(pairwise(dashes.tolist()))[::2]:
            draw.line((start, level, stop, level), THRESHOLD_COLOR, width=SHARPER)
        return np.asarray(image.resize((length, self.height), Image.Resampling.LANCZOS))


def _mix(color: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """Over the background."""
    red, green, blue = (round(share * a + (1 - share) * b) for a, b in zip(color, BACKGROUND, strict=True))
    return red, green, blue


def choose_panel_height(height: int) -> int:
    """Even, and in proportion to the picture's height."""
    return min(48, max(24, height // 5 // 2 * 2))
