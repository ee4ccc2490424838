"""Frames → snippets → patch cubes (Sect. 3.1).

frames (h, w, 3) ── resize ──▶ (H, W, 3) ── 16 at a time ──▶ snippet (L, H, W, 3) uint8
  ── the encoder's `prepare` ──▶ (K, L, H, W) ── tile ──▶ patch cubes (N_r, K, L, h_r, w_r)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssrl.geometry import Geometry, Grid


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) uint8 → (height, width, 3) uint8, bilinear, antialiased where it shrinks."""
    if frame.shape[:2] == (height, width):
        return frame
    image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]  # (1, 3, h, w), channels last
    resized = F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def fill_snippets(frames: Iterator[np.ndarray], geometry: Geometry, slots: Iterator[np.ndarray]) -> Iterator[int]:
    """Write resized frames into `slots`, one (L, H, W, 3) array a snippet; yields how many of its frames are real.

    The tail of the last snippet repeats the last frame.
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


def tile(snippet: Tensor, grid: Grid) -> Tensor:
    """(K, L, H, W) → (N_r, K, L, h_r, w_r), row-major, each pixel in one patch cube."""
    K, L, H, W = snippet.shape
    cells = snippet.reshape(K, L, grid.rows, grid.window_height, grid.cols, grid.window_width)
    return cells.permute(2, 4, 0, 1, 3, 5).flatten(0, 1)
