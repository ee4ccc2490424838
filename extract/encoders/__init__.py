"""Encoders: one patch cube (16 frames of h x w pixels) → one feature (D,).

    snippet (L, H, W, 3) uint8 ── prepare, pixel by pixel ──▶ (L, H, W, K) ── tiles (B, K, L, h, w)
      ── network ──▶ (B, D)

What is done to each pixel alone is done once a snippet, before its pixels go to the four grids.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssrl.config import StoreConfig
from ssrl.errors import UserError
from ssrl.extract.encoders.weights import Weights, file_weights, refusing_damage


@dataclass(frozen=True)
class Encoder:
    """A network, what it wants done to pixels, and where its weights came from."""

    name: str
    feature_dim: int  # D
    network: nn.Module  # (B, K, L, h, w) → (B, D)
    prepare: Callable[[Tensor], Tensor]  # pixels (..., 3) uint8 → (..., K) float32
    normalization: str  # what `prepare` does, in words
    weights: Weights
    bfloat16: bool = True  # whether "auto" may take it; a small network is fast enough to be the same on all machines
    on_cpu: Callable[[], nn.Module] | None = None  # the same function, arranged for CPUs

    def describe_features(self, dataset: str, **settings: Any) -> StoreConfig:
        """What a store of this encoder's features of `dataset` has in common."""
        return StoreConfig(
            dataset,
            self.name,
            self.weights.name,
            self.weights.sha256,
            self.feature_dim,
            normalisation=self.normalization,
            **settings,
        )

    def copy_for_cpu(self) -> nn.Module:
        return self.on_cpu() if self.on_cpu else copy.deepcopy(self.network)


def _i3d_r50(weights: str) -> Encoder:
    from ssrl.extract.encoders import i3d, i3d_cpu

    network, loaded = i3d.load_i3d_r50(weights)
    on_cpu = partial(i3d_cpu.CpuI3D, network)
    return Encoder("i3d_r50", i3d.FEATURE_DIM, network, i3d.normalized, i3d.NORMALIZATION, loaded, on_cpu=on_cpu)


def _micro3d(weights: str) -> Encoder:
    from ssrl.extract.encoders import micro3d

    path = micro3d.EMBEDDED_WEIGHTS if weights == "embedded" else Path(weights)
    loaded = file_weights(weights if weights == "embedded" else path.name, path)
    with refusing_damage(path, "a state dict of micro3d"):
        network = micro3d.load_micro3d(path)
    return Encoder("micro3d", micro3d.FEATURE_DIM, network, micro3d.gray, micro3d.NORMALIZATION, loaded, bfloat16=False)


def _swin3d_t(weights: str) -> Encoder:
    from ssrl.extract.encoders import swin3d

    network, loaded = swin3d.load_swin3d_t(weights)
    return Encoder("swin3d_t", swin3d.FEATURE_DIM, network, swin3d.normalized, swin3d.NORMALIZATION, loaded)


Outline = tuple[nn.Module, Callable[[Tensor], Tensor]]  # an encoder's network, untrained, and its `prepare`: to count


def _i3d_r50_outline() -> Outline:
    from pytorchvideo.models.hub import i3d_r50

    from ssrl.extract.encoders import i3d

    return i3d.I3D(i3d_r50(pretrained=False).blocks[:-1]), i3d.normalized


def _micro3d_outline() -> Outline:
    from ssrl.extract.encoders import micro3d

    return micro3d.Micro3D(), micro3d.gray


def _swin3d_t_outline() -> Outline:
    from torchvision.models.video import swin3d_t

    from ssrl.extract.encoders import swin3d

    return swin3d.Swin3D(swin3d_t()), swin3d.normalized


@dataclass(frozen=True)
class Known:
    """An encoder that can be asked for by name."""

    load: Callable[[str], Encoder]
    outline: Callable[[], Outline]
    default_weights: str


ENCODERS = {
    "micro3d": Known(_micro3d, _micro3d_outline, "embedded"),
    "i3d_r50": Known(_i3d_r50, _i3d_r50_outline, "kinetics400"),
    "swin3d_t": Known(_swin3d_t, _swin3d_t_outline, "kinetics400"),
}


def load_encoder(name: str, weights: str | None = None) -> Encoder:
    """The encoder `name`, in evaluation mode. Raises a UserError for unknown names and unusable weights."""
    if name not in ENCODERS:
        raise UserError(f"there is no encoder {name!r}; there are {', '.join(ENCODERS)}")
    known = ENCODERS[name]
    encoder = known.load(weights or known.default_weights)
    encoder.network.eval().requires_grad_(False)
    return encoder
