"""I3D-R50 on Kinetics-400 (Carreira and Zisserman, 2017) from pytorchvideo, cut before its head.

The head's pool wants 8x224x224; patch cubes have other shapes, so the features are averaged over all of time and space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssrl.extract.encoders.weights import (
    Weights,
    fetch,
    file_weights,
    random_seed,
    refusing_damage,
    sha256_of_state,
)

FEATURE_DIM = 2048
MEAN, STD = 0.45, 0.225  # pytorchvideo's, for each channel of 0..1
NORMALIZATION = f"(x / 255 - {MEAN}) / {STD}"
KINETICS400_URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/I3D_8x8_R50.pyth"


class I3D(nn.Module):
    """(B, 3, L, h, w) → (B, 2048): pytorchvideo's blocks without the head, then a global average."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, cubes: Tensor) -> Tensor:
        return self.pool_cells(self.encode_cells(cubes))

    def encode_cells(self, cubes: Tensor) -> Tensor:
        """(B, 3, L, h, w) → (B, 2048, f, y, x), behind a ReLU."""
        stem: Any = self.blocks[0]
        cubes = cubes.to(stem.conv.weight.dtype)
        for block in self.blocks:
            cubes = block(cubes)
        return cubes

    def pool_cells(self, cells: Tensor) -> Tensor:
        return cells.mean(dim=(2, 3, 4), dtype=torch.float32)


def normalized(pixels: Tensor) -> Tensor:
    """(..., 3) uint8 → (..., 3) float32."""
    return pixels.to(torch.float32).sub_(MEAN * 255).div_(STD * 255)


def load_i3d_r50(weights: str) -> tuple[I3D, Weights]:
    """`weights`: "kinetics400" (downloaded once), "random:SEED", or a file with the released state dict."""
    from pytorchvideo.models.hub import i3d_r50

    seed = random_seed(weights)
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = i3d_r50(pretrained=False)
            randomize_norms(model)
        return I3D(model.blocks[:-1]), Weights(weights, sha256_of_state(model))
    model = i3d_r50(pretrained=False)
    loaded = (
        fetch(weights, KINETICS400_URL) if weights == "kinetics400" else file_weights(Path(weights).name, Path(weights))
    )
    assert loaded.path is not None
    _load_state(model, loaded.path)
    return I3D(model.blocks[:-1]), loaded


def randomize_norms(model: nn.Module) -> None:
    """Draw weights, biases and statistics of all batch norms.

    An untrained I3D has weights of zero at the end of each residual branch: no branch would count.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.7, 1.4)


def _load_state(model: nn.Module, path: Path) -> None:
    """Load pytorchvideo's file, whose weights lie below the key `model_state`."""
    with refusing_damage(path, "pytorchvideo's I3D-R50 (allowed is I3D_8x8_R50.pyth, or a state dict with its names)"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("model_state", state))
