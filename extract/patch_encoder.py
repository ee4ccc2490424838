"""From pixels to features as one network, which a runtime runs or compiles as a whole.

    snippets (B, L, H, W, 3) uint8 ── prepare ──▶ (B, L, H, W, K) ── tile, for each grid ──▶ (B * N_r, L, h, w, K)
      ── network ──▶ (B, N_r, D)

Legend: B snippets, L frames, K channels of the prepared pixels, N_r patches of scale r, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ssrl.extract.snippets import tile
from ssrl.geometry import Grid

Prepare = Callable[[Tensor], Tensor]


@runtime_checkable
class GridNetwork(Protocol):
    """A network that encodes all grids of prepared snippets together."""

    def encode_grids(self, pixels: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """(B, L, H, W, K) → one (B * N_r, D) float32 per grid."""


class PatchEncoder(nn.Module):
    """The common base: prepared cubes (n, L, h, w, K) → (n, D) float32. Channels stay last in memory."""

    def __init__(self, prepare: Prepare, network: nn.Module) -> None:
        super().__init__()
        self.prepare = prepare
        self.network = network

    def encode(self, prepared: Tensor) -> Tensor:
        features: Tensor = self.network(prepared.permute(0, 4, 1, 2, 3))
        return features.float()


class CubeEncoder(PatchEncoder):
    """Patch cubes of one window, (n, L, h, w, 3) uint8 → (n, D)."""

    def forward(self, cubes: Tensor) -> Tensor:
        return self.encode(self.prepare(cubes))


class SnippetEncoder(PatchEncoder):
    """Snippets (B, L, H, W, 3) uint8 → one (B, N_r, D) per grid. Pixels are prepared once for all grids.

    A network that saves work by encoding grids together implements `GridNetwork`.
    """

    def __init__(self, prepare: Prepare, network: nn.Module, grids: Sequence[Grid]) -> None:
        super().__init__(prepare, network)
        self.grids = tuple(grids)

    def forward(self, snippets: Tensor) -> tuple[Tensor, ...]:
        prepared = self.prepare(snippets)
        if isinstance(self.network, GridNetwork):
            features = self.network.encode_grids(prepared, self.grids)
        else:
            features = [self.encode(tile(prepared, grid)) for grid in self.grids]
        return tuple(feature.unflatten(0, (len(snippets), -1)) for feature in features)
