"""Reuse with a static camera: a patch cube that has not changed since it was last encoded keeps its feature.

    snippet (L, H, W, 3) ── block means ──▶ (L/4, H/b, W/b, 3)
      ── largest change in a window since its cube was encoded ──▶ above the noise? encode again : reuse

Block means average out sensor noise, but not a change of a few pixels. The noise is the typical change of a block
from one group of frames to the next in the video's first snippet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ssrl.extract.runtimes import Runtime
from ssrl.geometry import Grid

LARGEST_BLOCK = 8  # pixels per side
FRAMES_PER_BLOCK = 4
NOISE_FACTOR = 6.0  # standard deviations of a block's mean that count as noise
MIN_TOLERANCE = 1.0  # gray levels of 255; compression alone may change this much


class StaticReuse:
    """Encodes one video snippet by snippet, and of each only the patch cubes that changed."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.grids = runtime.grids
        self.num_reused = 0
        self._tolerance: float | None = None
        self._blocks: dict[int, np.ndarray] = {}  # scale → block means of each window when its cube was last encoded
        self._features: dict[int, np.ndarray] = {}  # scale → (N_r, D)

    def encode(self, snippet: np.ndarray) -> dict[int, np.ndarray]:
        """(L, H, W, 3) uint8 → one array (1, N_r, D) per scale."""
        blocks = average_blocks(snippet, self.grids)
        if self._tolerance is None:
            self._tolerance = max(MIN_TOLERANCE, NOISE_FACTOR * estimate_noise(blocks))
            first = self.runtime.encode_snippets(snippet[None])
            self._features = {scale: features[0].copy() for scale, features in first.items()}
            self._blocks = {grid.scale: split_windows(blocks, grid).copy() for grid in self.grids}
        else:
            for grid in self.grids:
                self._update(grid, split_windows(blocks, grid), snippet)
        return {scale: features[None].copy() for scale, features in self._features.items()}

    def _update(self, grid: Grid, blocks: np.ndarray, snippet: np.ndarray) -> None:
        changes = np.abs(blocks - self._blocks[grid.scale]).reshape(grid.num_patches, -1).max(axis=1)  # (N_r,)
        changed = np.flatnonzero(changes > self._tolerance)
        self.num_reused += grid.num_patches - len(changed)
        if len(changed):
            cubes = split_windows(snippet, grid)[changed]
            self._features[grid.scale][changed] = self.runtime.encode_cubes(cubes)
            self._blocks[grid.scale][changed] = blocks[changed]


def split_windows(pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """(L, H, W, K) pixels or block means → (N_r, L, h, w, K), row-major."""
    L, H, W, K = pixels.shape
    cells = pixels.reshape(L, grid.rows, H // grid.rows, grid.cols, W // grid.cols, K)
    return cells.transpose(1, 3, 0, 2, 4, 5).reshape(grid.num_patches, L, H // grid.rows, W // grid.cols, K)


def average_blocks(snippet: np.ndarray, grids: Sequence[Grid]) -> np.ndarray:
    """(L, H, W, 3) uint8 → (L', H', W', 3) float32. Each block lies within one window of every grid."""
    L, H, W, K = snippet.shape
    frames = math.gcd(L, FRAMES_PER_BLOCK)
    height, width = (
        _find_largest_divisor(math.gcd(*sides))
        for sides in zip(*((grid.window_height, grid.window_width) for grid in grids), strict=True)
    )
    across = snippet.reshape(L, H, W // width, width, K).sum(axis=3, dtype=np.uint16)  # (L, H, W', 3)
    cells = across.reshape(L // frames, frames, H // height, height, W // width, K)
    sums: np.ndarray = cells.sum(axis=(1, 3), dtype=np.uint32)
    return sums.astype(np.float32) / (frames * height * width)


def estimate_noise(blocks: np.ndarray) -> float:
    """The standard deviation of a block mean between groups of frames, by the median, which ignores the few movers."""
    return 1.4826 * float(np.median(np.abs(np.diff(blocks, axis=0)))) if len(blocks) > 1 else 0.0


def _find_largest_divisor(number: int) -> int:
    return max(divisor for divisor in range(1, LARGEST_BLOCK + 1) if number % divisor == 0)
