"""micro3d: a compact 3-D convolutional encoder of motion, pretrained on drawn clips (see `ssrl.extract.pretrain`).

    cube (3, F, h, w) ──grey, area downscale──▶ (F, h', w'), short side 60 at most
      ──minus its mean over time; change from frame to frame──▶ (2, F, h', w')
      ──four convolutions──▶ cells (C, F/4, h'/4, w'/4) ──mean and peak over the cells──▶ (2C,)

Every cube is brought to the same short side, so the four grids of a snippet form a scale pyramid: the whole frame
is seen coarsely, its smallest patches in detail. What does not move is subtracted before the first layer.

Legend: B cubes, F frames, C channels of a cell, D = 2C features.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

CELL_CHANNELS = 128
FEATURE_DIM = 2 * CELL_CHANNELS
SHORT_SIDE = 60  # pixels; a cube whose short side is smaller is left as it is
CELL_STRIDE = (4, 4, 4)  # frames, rows, columns of one cell
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
NORMAL_MEAN, NORMAL_STD = 0.45, 0.225  # how the pipeline normalises 0..1
EMBEDDED_WEIGHTS = Path(str(resources.files("ssrl.extract.encoders"))) / "micro3d.pt"


class Micro3D(nn.Module):
    """Patch cubes to feature vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv3d(2, 16, (3, 5, 5), (1, 2, 2), (1, 2, 2)),
            nn.ReLU(),
            nn.Conv3d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv3d(32, 64, 3, (2, 1, 1), 1),
            nn.ReLU(),
            nn.Conv3d(64, CELL_CHANNELS, 3, 1, 1),
            nn.ReLU(),
        )

    def forward(self, cubes: Tensor) -> Tensor:
        """(B, 3, F, h, w), normalised as (x / 255 - 0.45) / 0.225, to (B, D); F >= 4, h and w >= 16."""
        luma = torch.tensor(LUMA, dtype=cubes.dtype, device=cubes.device)
        grey = torch.einsum("bcfhw,c->bfhw", cubes, luma) * NORMAL_STD + NORMAL_MEAN
        return self.pool(self.cells(shrink(grey)))

    def cells(self, grey: Tensor) -> Tensor:
        """(B, F, h', w') grey levels 0..1 to (B, C, F/4, h'/4, w'/4)."""
        return self.trunk(motion(grey))

    def pool(self, cells: Tensor) -> Tensor:
        """(B, C, f, y, x) to (B, 2C): the mean over all cells, and the peak of 2x2x2 means."""
        smooth = functional.avg_pool3d(cells, (1, 2, 2), 1)
        return torch.cat([cells.mean(dim=(2, 3, 4)), smooth.amax(dim=(2, 3, 4))], dim=1)


def shrink(grey: Tensor) -> Tensor:
    """(B, F, h, w) to the same with a short side of SHORT_SIDE, each pixel the mean of the area it covers."""
    height, width = grey.shape[-2:]
    factor = max(1.0, min(height, width) / SHORT_SIDE)
    rows = area_weights(height, round(height / factor)).to(grey)
    columns = area_weights(width, round(width / factor)).to(grey)
    return rows @ (grey @ columns.T)


def area_weights(size: int, target: int) -> Tensor:
    """(target, size): how much of each of `size` pixels lies in each of `target` equal intervals; rows sum to 1."""
    edges = torch.arange(target + 1, dtype=torch.float64) * (size / target)
    pixels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp(min=0) * (target / size)).float()


def motion(grey: Tensor) -> Tensor:
    """(B, F, h, w) to (B, 2, F, h, w): difference to the mean over time, and to the frame before."""
    lasting = grey - grey.mean(dim=1, keepdim=True)
    change = functional.pad(grey[:, 1:] - grey[:, :-1], (0, 0, 0, 0, 1, 0))
    return compress(torch.stack([lasting, change], dim=1))


def compress(difference: Tensor, knee: float = 0.08) -> Tensor:
    """Map differences of grey levels to -1..1, so that weak and strong contrasts come nearer to each other."""
    return difference / torch.sqrt(difference * difference + knee * knee)


def load_micro3d(weights: Path | None = None) -> Micro3D:
    """The encoder with the embedded weights, or with a state dict of its own from `weights`; in eval mode."""
    model = Micro3D()
    model.load_state_dict(torch.load(weights or EMBEDDED_WEIGHTS, map_location="cpu", weights_only=True))
    return model.eval()
