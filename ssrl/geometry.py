"""How a video is split: frames into snippets, snippets into patch cubes (Sect. 3.1 and 4.2).

frames    0 ........ 15 | 16 ....... 31 | 32 .. 39            num_frames = 40
snippets       0        |       1       |    2                T = ceil(40 / 16) = 3
                                          ^ its last 8 frames repeat frame 39

scale 1       scale 2              a grid of rows x cols windows, row-major, covering each pixel once
┌───────┐     ┌──┬──┬──┐
│   0   │     │0 │1 │2 │
│       │     ├──┼──┼──┤
└───────┘     │3 │4 │5 │
              └──┴──┴──┘

A row of features is a snippet or, in features pooled by others, one of S segments spread evenly over the video:

frames    0 ..... 12 | 13 .... 25 | 26 .... 39            num_frames = 40, S = 3
segments      0      |     1      |     2                 segment i: frames floor(40 i / 3) to floor(40 (i + 1) / 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ssrl.errors import UserError

if TYPE_CHECKING:
    import numpy as np

PAPER_SIZE = (480, 840)
PAPER_WINDOWS = ((480, 840), (240, 280), (160, 168), (120, 120))
PAPER_FRAMES_PER_SNIPPET = 16
PAPER_SEGMENTS = 32  # per video in training

Rows = Literal["snippets", "segments"]  # what a row of features covers
ROWS: tuple[Rows, ...] = ("snippets", "segments")


def ceil_div(count: int, size: int) -> int:
    """Return count / size, rounded up."""
    return -(-count // size)


@dataclass(frozen=True)
class Grid:
    """The patch grid of one scale r: `rows * cols` windows of `window_height * window_width` pixels."""

    scale: int  # r, counted from 1
    rows: int
    cols: int
    window_height: int
    window_width: int

    @property
    def num_patches(self) -> int:
        """N_r of Sect. 3.1."""
        return self.rows * self.cols

    @property
    def window_pixels(self) -> int:
        return self.window_height * self.window_width


@dataclass(frozen=True)
class Geometry:
    """Frame size H x W in pixels, snippet length L in frames, and one window (h_r, w_r) per scale."""

    height: int = PAPER_SIZE[0]
    width: int = PAPER_SIZE[1]
    frames_per_snippet: int = PAPER_FRAMES_PER_SNIPPET
    windows: tuple[tuple[int, int], ...] = PAPER_WINDOWS

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.frames_per_snippet) < 1:
            raise UserError(f"a snippet needs at least 1x1x1 pixels, not {self}")
        if not self.windows:
            raise UserError("a geometry needs at least one window")
        for window_height, window_width in self.windows:
            fits = window_height > 0 and window_width > 0
            if not fits or self.height % window_height or self.width % window_width:
                raise UserError(
                    f"windows of {window_height}x{window_width} do not tile a frame of {self.height}x{self.width}: "
                    f"{self.height} / {window_height} and {self.width} / {window_width} must be whole numbers"
                )

    def __str__(self) -> str:
        windows = ", ".join(f"{h}x{w}" for h, w in self.windows)
        return f"{self.height}x{self.width}x{self.frames_per_snippet}, windows {windows}"

    @classmethod
    def with_paper_grids(cls, height: int, width: int, frames_per_snippet: int = PAPER_FRAMES_PER_SNIPPET) -> Geometry:
        """Apply the paper's grids 1x1, 2x3, 3x5 and 4x7 to another frame size."""
        grids = [(PAPER_SIZE[0] // h, PAPER_SIZE[1] // w) for h, w in PAPER_WINDOWS]
        for rows, cols in grids:
            if height % rows or width % cols:
                raise UserError(
                    f"the {rows}x{cols} grid does not fit a frame of {height}x{width}: the height must be a "
                    f"multiple of 12 and the width of 105, as in 240x420 or 480x840"
                )
        windows = tuple((height // rows, width // cols) for rows, cols in grids)
        return cls(height, width, frames_per_snippet, windows)

    @property
    def num_scales(self) -> int:
        return len(self.windows)

    def grid(self, scale: int) -> Grid:
        if not 1 <= scale <= self.num_scales:
            raise UserError(f"unknown scale {scale}; allowed are 1 to {self.num_scales}")
        window_height, window_width = self.windows[scale - 1]
        return Grid(scale, self.height // window_height, self.width // window_width, window_height, window_width)

    @property
    def grids(self) -> tuple[Grid, ...]:
        return tuple(self.grid(scale) for scale in range(1, self.num_scales + 1))

    def num_snippets(self, num_frames: int) -> int:
        """T = ceil(num_frames / L)."""
        return ceil_div(num_frames, self.frames_per_snippet)

    def to_snippet(self, frame_index: int) -> int:
        return frame_index // self.frames_per_snippet

    def frame_span(self, snippet_index: int, num_frames: int) -> tuple[int, int]:
        """The frames [start, stop) of a snippet, clipped at the end of the video."""
        start = snippet_index * self.frames_per_snippet
        return start, min(start + self.frames_per_snippet, num_frames)


def compute_row_bounds(rows: Rows, num_rows: int, num_frames: int, frames_per_snippet: int) -> np.ndarray:
    """Compute the bounds b (num_rows + 1,) int64: row i covers the frames [b_i, b_i+1), and all rows cover all frames.

    With fewer frames than segments, some segments are empty.
    """
    import numpy as np

    if rows == "segments":
        return np.arange(num_rows + 1, dtype=np.int64) * num_frames // num_rows
    return np.minimum(np.arange(num_rows + 1, dtype=np.int64) * frames_per_snippet, num_frames)
