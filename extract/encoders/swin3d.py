"""Video Swin tiny on Kinetics-400 (Liu et al., 2022; Table 2) from torchvision, cut before its head.

The features are averaged over all positions that remain in time and space, by torchvision's own pool. Any window size
works: torchvision pads with zeros to whole tokens of 2x4x4, and a map of tokens to whole attention windows of 8x7x7,
or narrows the attention window to a map that is smaller.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ssrl.errors import UserError
from ssrl.extract.encoders.weights import (
    Weights,
    downloading,
    file_weights,
    random_seed,
    refusing_damage,
    sha256_of_state,
)

if TYPE_CHECKING:
    from torchvision.models.video.swin_transformer import SwinTransformer3d

FEATURE_DIM = 768
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's for these weights; red, green, blue of 0..1
NORMALIZATION = f"(x / 255 - {MEAN}) / {STD}"
WANTED = "torchvision's Video Swin tiny (allowed is swin3d_t-7615ae03.pth, or a state dict with its names)"


class Swin3D(nn.Module):
    """(B, 3, L, h, w) → (B, 768): torchvision's network whose head gives what it gets."""

    def __init__(self, network: SwinTransformer3d) -> None:
        super().__init__()
        network.head = nn.Identity()
        self.network = network

    def forward(self, cubes: Tensor) -> Tensor:
        features: Tensor = self.network(cubes.to(self.network.patch_embed.proj.weight.dtype))
        return features


def normalized(pixels: Tensor) -> Tensor:
    """(..., 3) uint8 → (..., 3) float32."""
    mean, std = (255 * pixels.new_tensor(values, dtype=torch.float32) for values in (MEAN, STD))
    return pixels.to(torch.float32).sub_(mean).div_(std)


def load_swin3d_t(weights: str) -> tuple[Swin3D, Weights]:
    """`weights`: "kinetics400" (downloaded once, by torchvision), "random:SEED", or a file with its state dict."""
    from torchvision.models.video import swin3d_t

    seed = random_seed(weights)
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = swin3d_t()
        return Swin3D(model), Weights(weights, sha256_of_state(model))
    loaded = _fetched() if weights == "kinetics400" else file_weights(Path(weights).name, Path(weights))
    assert loaded.path is not None
    model = swin3d_t()
    with refusing_damage(loaded.path, WANTED):
        model.load_state_dict(torch.load(loaded.path, map_location="cpu", weights_only=True))
    return Swin3D(model), loaded


def _fetched() -> Weights:
    """The file in torchvision's cache, fetched if need be; checked at every use against the hash in its name."""
    from torchvision.models.video import Swin3D_T_Weights

    chosen = Swin3D_T_Weights.KINETICS400_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rsplit("/", 1)[-1]
    with refusing_damage(path, WANTED), downloading(chosen.url), redirect_stdout(sys.stderr):
        chosen.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    loaded = file_weights("kinetics400", path)
    if not loaded.sha256.startswith(path.stem.rsplit("-", 1)[-1]):
        raise UserError(f"{path} is not what torchvision published: its SHA-256 is {loaded.sha256}; delete it")
    return loaded
