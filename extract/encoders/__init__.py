"""Encoders: one patch cube (16 frames of h x w pixels) → one feature (D,).

    snippet (L, H, W, 3) uint8 ── prepare, pixel-wise ──▶ (L, H, W, K) ── tiles (B, K, L, h, w)
      ── network ──▶ (B, D)

Pixel-wise preparation is done once per snippet, before its pixels go to the four grids.
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
    """A network, the preparation of its pixels, and the origin of its weights."""

    name: str
    feature_dim: int  # D
    network: nn.Module  # (B, K, L, h, w) → (B, D)
    prepare: Callable[[Tensor], Tensor]  # pixels (..., 3) uint8 → (..., K) float32
    normalization: str  # what `prepare` does, as stores record it
    weights: Weights
    on_cpu: Callable[[], nn.Module] | None = None  # makes an equivalent network optimized for CPUs

    def describe_features(self, dataset: str, **settings: Any) -> StoreConfig:
        """The configuration of a store of this encoder's features of `dataset`."""
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


def _load_i3d_r50(weights: str) -> Encoder:
    from ssrl.extract.encoders import i3d, i3d_cpu

    network, loaded = i3d.load_i3d_r50(weights)
    on_cpu = partial(i3d_cpu.CpuI3D, network)
    return Encoder("i3d_r50", i3d.FEATURE_DIM, network, i3d.normalized, i3d.NORMALIZATION, loaded, on_cpu=on_cpu)


def _load_micro3d(weights: str) -> Encoder:
    from ssrl.extract.encoders import micro3d

    path = micro3d.EMBEDDED_WEIGHTS if weights == "embedded" else Path(weights)
    loaded = file_weights(weights if weights == "embedded" else path.name, path)
    with refusing_damage(path, "a state dict of micro3d"):
        network = micro3d.load_micro3d(path)
    prepare, description = micro3d.to_gray, micro3d.NORMALIZATION
    return Encoder("micro3d", micro3d.FEATURE_DIM, network, prepare, description, loaded)


def _load_swin3d_t(weights: str) -> Encoder:
    from ssrl.extract.encoders import swin3d

    network, loaded = swin3d.load_swin3d_t(weights)
    return Encoder("swin3d_t", swin3d.FEATURE_DIM, network, swin3d.normalized, swin3d.NORMALIZATION, loaded)


Outline = tuple[nn.Module, Callable[[Tensor], Tensor]]  # an untrained network and its `prepare`, to count FLOPs


def _outline_i3d_r50() -> Outline:
    from pytorchvideo.models.hub import i3d_r50

    from ssrl.extract.encoders import i3d

    return i3d.I3D(i3d_r50(pretrained=False).blocks[:-1]), i3d.normalized


def _outline_micro3d() -> Outline:
    from ssrl.extract.encoders import micro3d

    return micro3d.Micro3D(), micro3d.to_gray


def _outline_swin3d_t() -> Outline:
    from torchvision.models.video import swin3d_t

    from ssrl.extract.encoders import swin3d

    return swin3d.Swin3D(swin3d_t()), swin3d.normalized


@dataclass(frozen=True)
class Entry:
    """How to load an encoder by name."""

    load: Callable[[str], Encoder]
    outline: Callable[[], Outline]
    default_weights: str


ENCODERS = {
    "micro3d": Entry(_load_micro3d, _outline_micro3d, "embedded"),
    "i3d_r50": Entry(_load_i3d_r50, _outline_i3d_r50, "kinetics400"),
    "swin3d_t": Entry(_load_swin3d_t, _outline_swin3d_t, "kinetics400"),
}


def load_encoder(name: str, weights: str | None = None) -> Encoder:
    """Load the encoder `name` in evaluation mode. Raises a UserError for unknown names and unusable weights."""
    if name not in ENCODERS:
        raise UserError(f"unknown encoder {name!r}; choose from {', '.join(ENCODERS)}")
    entry = ENCODERS[name]
    encoder = entry.load(weights or entry.default_weights)
    encoder.network.eval().requires_grad_(False)
    return encoder
