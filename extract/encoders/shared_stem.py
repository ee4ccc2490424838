"""Run the first layers of a network once on the whole frame of a snippet, not once per patch grid.

Each patch is encoded with zero padding, which affects the first layers only near its edges: elsewhere their output is
that of the whole frame. So they run on the frame, and on the margins of each patch, those of opposite edges side by
side; the output where the two meet is dropped.

    whole frame        a patch      ┌───────top───────┐
    ┌──┬──┬──┐                      ├────┬─────┬──────┤
    ├──┼──┼──┤   ──▶                │left│frame│ right│
    └──┴──┴──┘                      ├────┴─────┴──────┤
                                    └──────bottom─────┘

The result is that of each patch alone, up to the order of summation.

Legend: B snippets, L frames, N_r patches of grid r, K channels of pixels, C of the stem; axes are rows first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrl.geometry import Grid, ceil_div

Stem = Callable[[Tensor], Tensor]  # pixels (n, h, L, w, K) → (n, C, h / stride, L, w / stride)


@dataclass(frozen=True)
class ReceptiveField:
    """A stem's receptive field along rows and columns, as that of one convolution with padding."""

    kernel: int
    stride: int
    padding: int

    def __post_init__(self) -> None:
        assert self.near and self.far

    @property
    def near(self) -> int:
        """Output positions that see beyond the top or left edge."""
        return ceil_div(self.padding, self.stride)

    @property
    def far(self) -> int:
        """Output positions that see beyond the bottom or right edge."""
        return ceil_div(max(0, self.kernel - self.padding - self.stride), self.stride)

    @property
    def margin(self) -> int:
        """Pixels inward from an edge that those positions see; two margins are a whole number of strides."""
        near = self.stride * (self.near - 1) - self.padding + self.kernel
        far = self.stride * self.far + self.padding
        return ceil_div(2 * max(near, far), self.stride) * self.stride // 2

    def is_shareable(self, grid: Grid) -> bool:
        """Whether the grid's patches are aligned with the stride and larger than their margins."""
        sides = (grid.window_height, grid.window_width)
        return all(side % self.stride == 0 and side > 2 * self.margin for side in sides)


def run_on_patches(stem: Stem, field: ReceptiveField, pixels: Tensor, frame: Tensor, grid: Grid) -> Tensor:
    """`stem` of every patch, (B * N_r, C, h_r / stride, L, w_r / stride), from the whole frame's and the margins'.

    `pixels` (B, L, H, W, K); `frame` (B, C, H / stride, L, W / stride) is the stem's output for the whole frame.
    """
    if grid.num_patches == 1:
        return frame
    near, far, margin = field.near, field.far, field.margin
    B, L, H, W, K = pixels.shape
    cells = pixels.reshape(B, L, grid.rows, grid.window_height, grid.cols, grid.window_width, K)

    def run_on_margins(axis: int) -> Tensor:
        ends = [cells.narrow(axis, start, margin) for start in (0, cells.shape[axis] - margin)]
        return stem(torch.cat(ends, axis).permute(0, 2, 4, 3, 1, 5, 6).flatten(0, 2))

    rows, columns = run_on_margins(axis=3), run_on_margins(axis=5)[:, :, near:-far]
    top, bottom = rows[:, :, :near], rows[:, :, -far:]
    left, right = columns[..., :near], columns[..., -far:]
    middle = torch.cat([left, _cut_inner(frame, grid, near, far), right], dim=4)
    return torch.cat([top, middle, bottom], dim=2)


def _cut_inner(frame: Tensor, grid: Grid, near: int, far: int) -> Tensor:
    """(B, C, H', L, W') → (B * N_r, C, h' - near - far, L, w' - near - far): patches without their margins."""
    B, C, H, L, W = frame.shape
    cells = frame.permute(0, 2, 3, 4, 1).reshape(B, grid.rows, H // grid.rows, L, grid.cols, W // grid.cols, C)
    inner = cells[:, :, near:-far, :, :, near:-far]
    return inner.permute(0, 1, 4, 2, 3, 5, 6).flatten(0, 2).permute(0, 4, 1, 2, 3)
