"""Frames → snippets → patch cubes (Sect. 3.1).

frames (h, w, 3) ── resize ──▶ (H, W, 3) ── 16 at a time ──▶ snippet (L, H, W, 3) uint8
  ── the encoder's `prepare`, pixel by pixel ──▶ (L, H, W, K) ── tile ──▶ patch cubes (N_r, L, h_r, w_r, K)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssrl.geometry import PAPER_SEGMENTS, Geometry, Grid, compute_row_bounds


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) uint8 → (height, width, 3) uint8, bilinear, antialiased when downscaling."""
    if frame.shape[:2] == (height, width):
        return frame
    image = torch.from_numpy(np.ascontiguousarray(frame))[None].permute(0, 3, 1, 2)  # (1, 3, h, w), channels last
    resized = F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def fill_snippets(frames: Iterator[np.ndarray], geometry: Geometry, slots: Iterator[np.ndarray]) -> Iterator[int]:
    """Write resized frames into `slots`, one (L, H, W, 3) array per snippet; yield its number of real frames.

    The last snippet is padded by repeating the last frame.
    """
    slot, filled = None, 0
    for frame in frames:
        if slot is None:
            slot = next(slots)
        slot[filled] = resize(frame, geometry.height, geometry.width)
        filled += 1
        if filled == geometry.frames_per_snippet:
            yield filled
            slot, filled = None, 0
    if slot is not None:
        slot[filled:] = slot[filled - 1]
        yield filled


def needs_segments(num_frames: int, geometry: Geometry) -> bool:
    """Whether the video has more snippets than segments."""
    return geometry.num_snippets(num_frames) > PAPER_SEGMENTS


def fill_segments(
    frames: Iterator[np.ndarray], num_frames: int, geometry: Geometry, slots: Iterator[np.ndarray]
) -> Iterator[int]:
    """Like `fill_snippets`, for L frames spread evenly over each of the video's 32 segments (Sect. 4.2).

    Segment i covers the frames [b_i, b_i+1) of `row_bounds`, and samples those at b_i + floor(k (b_i+1 - b_i) / L). If
    there turn out to be fewer frames, the last segments do not come.
    """
    L = geometry.frames_per_snippet
    bounds = compute_row_bounds("segments", PAPER_SEGMENTS, num_frames, L)
    offsets = np.arange(L) * np.diff(bounds)[:, None] // L
    indices = (bounds[:-1, None] + offsets).flatten()  # no duplicates: num_frames > 32 L
    slot, filled = None, 0
    for index, frame in enumerate(frames):
        if filled < len(indices) and index == indices[filled]:
            slot = next(slots) if slot is None else slot
            slot[filled % L] = resize(frame, geometry.height, geometry.width)
            filled += 1
            if filled % L == 0:
                yield L
                slot = None


def tile(snippets: Tensor, grid: Grid) -> Tensor:
    """(B, L, H, W, K) → (B * N_r, L, h_r, w_r, K), row-major, each pixel in exactly one patch cube."""
    B, L, H, W, K = snippets.shape
    cells = snippets.reshape(B, L, grid.rows, grid.window_height, grid.cols, grid.window_width, K)
    return cells.permute(0, 2, 4, 1, 3, 5, 6).flatten(0, 2)
