"""I3D optimized for CPUs: the same function of the same weights, with reordered axes and first convolution.

cubes (B, 3, L, h, w) ── rows first ──▶ (B, 3, h, L, w) ── columns in pairs ──▶ (B, 6, h, L, w / 2) ──▶ (B, 2048)

Rows first: a convolution over time reads the same row of three frames, which then lie close together in memory. With
frames first, each of them leaves the cache before the next row needs it.

In pairs: processors multiply more channels at once than the 3 of a pixel. Two columns of 3 make 6, and a stride of two
columns becomes a stride of one pair.

The grids of a snippet also share their first layers (see `ssrl.extract.encoders.shared_stem`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssrl.extract.encoders.i3d import I3D
from ssrl.extract.encoders.shared_stem import ReceptiveField, run_on_patches
from ssrl.extract.snippets import tile
from ssrl.geometry import Grid

STEM_FIELD = ReceptiveField(kernel=11, stride=4, padding=5)  # 7x7 convolution of stride 2, 3x3 max pool of stride 2


class CpuI3D(nn.Module):
    """(B, 3, L, h, w) → (B, 2048): the result of `network`, up to the order of summation."""

    def __init__(self, network: I3D) -> None:
        super().__init__()
        stem, *blocks = put_rows_first(network).blocks
        self._paired = PairedColumns(stem.conv)
        self._rest_of_stem = nn.Sequential(stem.norm, stem.activation, stem.pool)
        self._blocks = nn.Sequential(*blocks)

    def forward(self, cubes: Tensor) -> Tensor:
        return self._finish(self._run_stem(cubes.permute(0, 3, 2, 4, 1)))

    def encode_grids(self, pixels: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """(B, L, H, W, 3) → (B * N_r, 2048) per grid. Grids share the first convolution and pool where they can."""
        pixels = pixels.to(self._paired.weight.dtype)  # once, before any copy
        sharing = [grid for grid in grids if STEM_FIELD.is_shareable(grid)]
        if len(sharing) < 2:
            return [self(tile(pixels, grid).permute(0, 4, 1, 2, 3)) for grid in grids]
        frame = self._run_stem(pixels.transpose(1, 2))
        return [
            self._finish(run_on_patches(self._run_stem, STEM_FIELD, pixels, frame, grid))
            if grid in sharing
            else self(tile(pixels, grid).permute(0, 4, 1, 2, 3))
            for grid in grids
        ]

    def _run_stem(self, pixels: Tensor) -> Tensor:
        """(n, h, L, w, 3) → (n, 64, h / 4, L, w / 4)."""
        pixels = pixels.to(self._paired.weight.dtype)
        hidden: Tensor = self._rest_of_stem(self._paired(pixels.permute(0, 4, 1, 2, 3)))
        return hidden

    def _finish(self, hidden: Tensor) -> Tensor:
        hidden = self._blocks(hidden)
        return hidden.mean(dim=(2, 3, 4), dtype=torch.float32)


class PairedColumns(nn.Module):
    """A convolution of 7 columns with stride 2, as one of 4 pairs of columns with stride 1.

    columns     . . .|0 1 2 3 4 5 ...        the 7 around column 0; . is padding
    pairs     (. .)(. .)(0 1)(2 3)(4 5)      the same and one more column, of weight zero
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        assert (conv.kernel_size[2], conv.stride[2], conv.padding[2]) == (7, 2, 3) and conv.bias is None
        weight = F.pad(conv.weight, (1, 0)).unflatten(4, (4, 2))  # (O, K, a, b, 4, 2)
        self.weight = nn.Parameter(weight.permute(0, 5, 1, 2, 3, 4).flatten(1, 2), requires_grad=False)
        self.stride = (*conv.stride[:2], 1)
        self.padding = (*conv.padding[:2], 0)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, K, a, b, w) → (B, O, a', b', ceil(w / 2))."""
        pixels = F.pad(pixels, (0, pixels.shape[-1] % 2))
        pairs = pixels.permute(0, 2, 3, 4, 1).unflatten(3, (-1, 2)).flatten(4)  # (B, a, b, w / 2, 2 K)
        return F.conv3d(F.pad(pairs.permute(0, 4, 1, 2, 3), (2, 1)), self.weight, None, self.stride, self.padding)


def put_rows_first(network: I3D) -> Any:
    """Copy the network to take (B, 3, h, L, w): the first two axes of each convolution and pool are swapped."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight = nn.Parameter(module.weight.transpose(2, 3).contiguous(), requires_grad=False)
        if isinstance(module, nn.Conv3d | nn.MaxPool3d):
            for name in ("kernel_size", "stride", "padding"):
                frames, rows, columns = (int(size) for size in getattr(module, name))
                setattr(module, name, (rows, frames, columns))
    return network
