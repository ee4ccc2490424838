"""Where in a patch a feature comes from.

    contributions (N_r, D) ── the encoder's pooling, backwards ──▶ cells (N_r, f, y, x)
      ── side by side ──▶ (f, rows * y, cols * x)

An encoder pools cells, none of them negative, into a feature: micro3d by maxima of means, I3D by the mean. Such pooling
is homogeneous, so a feature is the sum of its cells times its derivatives by them (Euler's theorem). In these shares
its contribution is divided among the cells.

Legend: L frames, N_r patches, D features, K channels of the prepared pixels; f, y, x cells of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ssrl.extract.encoders import Encoder
from ssrl.extract.snippets import tile
from ssrl.geometry import Grid

TRACED_SHARE = 0.1  # of the largest contribution of a patch; patches below it are not traced, but spread evenly
TINY = 1e-6  # a feature below it has no cells to speak of


@runtime_checkable
class Traceable(Protocol):
    """A network whose features are pooled from cells."""

    def encode_cells(self, cubes: Tensor) -> Tensor:
        """(N, K, L, h, w) → (N, channels, f, y, x), none negative."""

    def pool_cells(self, cells: Tensor) -> Tensor:
        """(N, channels, f, y, x) → (N, D)."""


def can_trace(encoder: Encoder) -> bool:
    """Whether the encoder's features are pooled from cells."""
    return isinstance(encoder.network, Traceable)


def trace_contributions(
    encoder: Encoder,
    snippet: np.ndarray,
    contributions: Mapping[int, Tensor],
    grids: Sequence[Grid],
    signed: bool = False,
) -> dict[int, np.ndarray] | None:
    """Divide what each feature of a snippet (L, H, W, 3) uint8 contributes among the cells it was pooled from.

    `contributions` hold one tensor (N_r, D) per scale; negative ones are left out, unless `signed`. Patches that
    contribute little are not encoded, which saves most of the time: theirs is spread evenly. Returns one array
    (f, rows * y, cols * x) float32 per scale, which sums to them; None if the encoder's features cannot be traced.
    """
    network = encoder.network
    if not isinstance(network, Traceable):
        return None
    with torch.no_grad():
        pixels = encoder.prepare(torch.from_numpy(snippet)[None])  # (1, L, H, W, K)
    kept = {scale: (each if signed else each.clamp(min=0)).detach().cpu() for scale, each in contributions.items()}
    amounts = {grid.scale: kept[grid.scale].abs().sum(dim=1) for grid in grids}  # (N,)
    least = TRACED_SHARE * max((float(each.max()) for each in amounts.values()), default=0.0)
    is_traced = {scale: (each >= least) & (each > 0) for scale, each in amounts.items()}
    return {grid.scale: _trace(network, pixels, kept[grid.scale], grid, is_traced[grid.scale]) for grid in grids}


def _trace(network: Traceable, pixels: Tensor, contributions: Tensor, grid: Grid, is_traced: Tensor) -> np.ndarray:
    if not is_traced.any():
        is_traced = torch.arange(len(is_traced)) == 0  # encode one patch, to know the number of cells
    with torch.no_grad():
        cells = network.encode_cells(tile(pixels, grid)[is_traced].permute(0, 4, 1, 2, 3)).float()
    cells.requires_grad_()
    features = network.pool_cells(cells)  # (n, D), of the n patches to trace
    per_unit = contributions[is_traced] / features.detach().clamp(min=TINY)
    (features * per_unit).sum().backward()
    assert cells.grad is not None
    f, y, x = cells.shape[2:]
    divided = contributions.sum(dim=1)[:, None, None, None].repeat(1, f, y, x) / (f * y * x)  # (N, f, y, x)
    divided[is_traced] = (cells.grad * cells.detach()).sum(dim=1)
    placed = divided.unflatten(0, (grid.rows, grid.cols)).permute(2, 0, 3, 1, 4)  # (f, rows, y, cols, x)
    return np.asarray(placed.reshape(f, grid.rows * y, grid.cols * x))
