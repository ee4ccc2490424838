"""A camera that does not move: a patch cube that looks as it did when it was last encoded takes that feature.

    snippet (L, H, W, 3) ── means of blocks ──▶ (L/4, H/b, W/b, 3)
      ── largest change in a window since its cube was encoded ──▶ beyond the noise? encode anew : keep the feature

Means of blocks tell a change of a few pixels from sensor noise, which they average out. The noise is what most blocks
of the video's first snippet change by from one group of frames to the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ssrl.extract.runtimes import Runtime
from ssrl.geometry import Grid

LARGEST_BLOCK = 8  # pixels a side
FRAMES_PER_BLOCK = 4
NOISE_FACTOR = 6.0  # standard deviations of a block's mean that count as noise
LEAST_TOLERANCE = 1.0  # gray levels of 255; what compression alone may change


class StaticReuse:
    """The features of one video, snippet by snippet, with as few patch cubes encoded as its changes ask for."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.grids = runtime.grids
        self.num_reused = 0
        self._tolerance: float | None = None
        self._blocks: dict[int, np.ndarray] = {}  # scale → what each window looked like when its cube was encoded
        self._features: dict[int, np.ndarray] = {}  # scale → (N_r, D)

    def snippet(self, snippet: np.ndarray) -> dict[int, np.ndarray]:
        """(L, H, W, 3) uint8 → one array (1, N_r, D) a scale."""
        blocks = block_means(snippet, self.grids)
        if self._tolerance is None:
            self._tolerance = max(LEAST_TOLERANCE, NOISE_FACTOR * noise(blocks))
            first = self.runtime.snippets(snippet[None])
            self._features = {scale: features[0].copy() for scale, features in first.items()}
            self._blocks = {grid.scale: windows(blocks, grid).copy() for grid in self.grids}
        else:
            for grid in self.grids:
                self._renew(grid, windows(blocks, grid), snippet)
        return {scale: features[None].copy() for scale, features in self._features.items()}

    def _renew(self, grid: Grid, blocks: np.ndarray, snippet: np.ndarray) -> None:
        changes = np.abs(blocks - self._blocks[grid.scale]).reshape(grid.num_patches, -1).max(axis=1)  # (N_r,)
        changed = np.flatnonzero(changes > self._tolerance)
        self.num_reused += grid.num_patches - len(changed)
        if len(changed):
            cubes = windows(snippet, grid)[changed]
            self._features[grid.scale][changed] = self.runtime.cubes(cubes)
            self._blocks[grid.scale][changed] = blocks[changed]


def windows(pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """(L, H, W, K), or its means of blocks, → (N_r, L, h, w, K), row-major."""
    L, H, W, K = pixels.shape
    cells = pixels.reshape(L, grid.rows, H // grid.rows, grid.cols, W // grid.cols, K)
    return cells.transpose(1, 3, 0, 2, 4, 5).reshape(grid.num_patches, L, H // grid.rows, W // grid.cols, K)


def block_means(snippet: np.ndarray, grids: Sequence[Grid]) -> np.ndarray:
    """(L, H, W, 3) uint8 → (L', H', W', 3) float32. A block lies in one window of each grid."""
    L, H, W, K = snippet.shape
    frames = math.gcd(L, FRAMES_PER_BLOCK)
    height, width = (
        _largest_divisor(math.gcd(*sides))
        for sides in zip(*((grid.window_height, grid.window_width) for grid in grids), strict=True)
    )
    across = snippet.reshape(L, H, W // width, width, K).sum(axis=3, dtype=np.uint16)  # (L, H, W', 3)
    cells = across.reshape(L // frames, frames, H // height, height, W // width, K)
    return cells.sum(axis=(1, 3), dtype=np.uint32).astype(np.float32) / (frames * height * width)


def noise(blocks: np.ndarray) -> float:
    """The standard deviation of a block's mean from one group of frames to the next, by the median: movers are few."""
    return 1.4826 * float(np.median(np.abs(np.diff(blocks, axis=0)))) if len(blocks) > 1 else 0.0


def _largest_divisor(number: int) -> int:
    return max(divisor for divisor in range(1, LARGEST_BLOCK + 1) if number % divisor == 0)
