"""Encoders: one patch cube (16 frames of h x w pixels) → one feature (D,).

    snippet (L, H, W, 3) uint8 ── prepare, pixel by pixel ──▶ (K, L, H, W) ── tiles (B, K, L, h, w)
      ── network ──▶ (B, D)

What is done to each pixel alone is done once a snippet, before its pixels go to the four grids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ssrl.errors import UserError
from ssrl.extract.encoders.weights import Weights, file_weights, refusing_damage


@dataclass(frozen=True)
class Encoder:
    """A network, what it wants done to pixels, and where its weights came from."""

    name: str
    feature_dim: int  # D
    network: nn.Module  # (B, K, L, h, w) → (B, D)
    prepare: Callable[[Tensor], Tensor]  # (L, H, W, 3) uint8 → (K, L, H, W) float32
    normalisation: str  # what `prepare` does, in words
    weights: Weights


def _i3d_r50(weights: str) -> Encoder:
    from ssrl.extract.encoders import i3d

    network, loaded = i3d.load_i3d_r50(weights)
    return Encoder("i3d_r50", i3d.FEATURE_DIM, network, i3d.normalised, i3d.NORMALISATION, loaded)


def _micro3d(weights: str) -> Encoder:
    from ssrl.extract.encoders import micro3d

    path = micro3d.EMBEDDED_WEIGHTS if weights == "embedded" else Path(weights)
    loaded = file_weights(weights if weights == "embedded" else path.name, path)
    with refusing_damage(path, "a state dict of micro3d"):
        network = micro3d.load_micro3d(path)
    return Encoder("micro3d", micro3d.FEATURE_DIM, network, micro3d.grey, micro3d.NORMALISATION, loaded)


@dataclass(frozen=True)
class Known:
    """An encoder that can be asked for by name."""

    load: Callable[[str], Encoder]
    default_weights: str


ENCODERS = {
    "micro3d": Known(_micro3d, "embedded"),
    "i3d_r50": Known(_i3d_r50, "kinetics400"),
}


def load_encoder(name: str, weights: str | None = None) -> Encoder:
    """The encoder `name`, in evaluation mode. Raises a UserError for unknown names and unusable weights."""
    if name not in ENCODERS:
        raise UserError(f"there is no encoder {name!r}; there are {', '.join(ENCODERS)}")
    known = ENCODERS[name]
    encoder = known.load(weights or known.default_weights)
    encoder.network.eval().requires_grad_(False)
    return encoder
