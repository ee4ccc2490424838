"""The first layers of a network on all patch grids of a snippet: once for the whole frame, not once for every grid.

A patch is encoded as if zeros lay around it. First layers notice that only near its edges: everywhere else they give
what they give for the whole frame. So they run on the frame, and on the margins of each patch, those of opposite edges
side by side; what they give where the two meet is left out.

    whole frame        a patch      ┌───────top───────┐
    ┌──┬──┬──┐                      ├────┬─────┬──────┤
    ├──┼──┼──┤   ──▶                │left│frame│ right│
    └──┴──┴──┘                      ├────┴─────┴──────┤
                                    └──────bottom─────┘

The outcome is that of each patch alone, but for the order of sums.

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
class Reach:
    """How far a stem sees along rows and along columns: as one convolution of this kernel would, with padding."""

    kernel: int
    stride: int
    padding: int

    def __post_init__(self) -> None:
        assert self.near and self.far

    @property
    def near(self) -> int:
        """Positions of the output that see beyond the top or left edge."""
        return ceil_div(self.padding, self.stride)

    @property
    def far(self) -> int:
        """Positions of the output that see beyond the bottom or right edge."""
        return ceil_div(max(0, self.kernel - self.padding - self.stride), self.stride)

    @property
    def margin(self) -> int:
        """Pixels from an edge inwards that those positions see; two margins are a whole number of strides."""
        near = self.stride * (self.near - 1) - self.padding + self.kernel
        far = self.stride * self.far + self.padding
        return ceil_div(2 * max(near, far), self.stride) * self.stride // 2

    def fits(self, grid: Grid) -> bool:
        """Whether patches of the grid fall on whole strides and are more than their edges."""
        sides = (grid.window_height, grid.window_width)
        return all(side % self.stride == 0 and side > 2 * self.margin for side in sides)


def on_patches(stem: Stem, reach: Reach, pixels: Tensor, frame: Tensor, grid: Grid) -> Tensor:
    """`stem` of every patch, (B * N_r, C, h_r / stride, L, w_r / stride), from that of the whole frame and of strips.

    `pixels` (B, L, H, W, K); `frame` (B, C, H / stride, L, W / stride) is the stem's output for the whole frame.
    """
    if grid.num_patches == 1:
        return frame
    near, far, margin = reach.near, reach.far, reach.margin
    B, L, H, W, K = pixels.shape
    cells = pixels.reshape(B, L, grid.rows, grid.window_height, grid.cols, grid.window_width, K)

    def margins(axis: int) -> Tensor:
        ends = [cells.narrow(axis, start, margin) for start in (0, cells.shape[axis] - margin)]
        return stem(torch.cat(ends, axis).permute(0, 2, 4, 3, 1, 5, 6).flatten(0, 2))

    rows, columns = margins(axis=3), margins(axis=5)[:, :, near:-far]
    top, bottom = rows[:, :, :near], rows[:, :, -far:]
    left, right = columns[..., :near], columns[..., -far:]
    middle = torch.cat([left, _inner(frame, grid, near, far), right], dim=4)
    return torch.cat([top, middle, bottom], dim=2)


def _inner(frame: Tensor, grid: Grid, near: int, far: int) -> Tensor:
    """(B, C, H', L, W') → (B * N_r, C, h' - near - far, L, w' - near - far): patches without their edges."""
    B, C, H, L, W = frame.shape
    cells = frame.permute(0, 2, 3, 4, 1).reshape(B, grid.rows, H // grid.rows, L, grid.cols, W // grid.cols, C)
    inner = cells[:, :, near:-far, :, :, near:-far]
    return inner.permute(0, 1, 4, 2, 3, 5, 6).flatten(0, 2).permute(0, 4, 1, 2, 3)
