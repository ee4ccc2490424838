"""micro3d: a compact encoder of motion as codes, pretrained on synthetic clips (`extract/micro3d_pretraining`).

    cube (1, F, h, w) of gray levels ──area downscale──▶ (F, h', w'), short side 60 at most
      ──difference to the temporal mean; frame difference──▶ (2, F, h', w')
      ──four convolutions──▶ cells of 4 frames x 4 x 4 pixels
      ──readout──▶ per cell, probabilities of the kind, speed, height and pace of what moves there
      ──their products──▶ 128 codes, such as "a rider, 0.16 to 0.28 heights per frame"
      ──max pool of the codes over small and larger neighborhoods──▶ (256,)

Every cube is resized to the same short side, so the four grids of a snippet form a scale pyramid: the whole frame
is seen coarsely, its smallest patches in detail. The static background is subtracted before the first layer, and a
single small mover is enough to raise its codes, whatever else the patch holds.

Legend: B cubes, F frames, K codes, D features; f, y, x cells.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORT_SIDE = 60  # pixels; smaller cubes are not resized
CELL_STRIDE = (4, 4, 4)  # frames, rows, columns of one cell
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
NORMALIZATION = "grey / 255"  # as stores record it

# What the readout predicts per cell, as class probabilities. Edges separate neighboring classes.
KINDS = ("walker", "rider", "glider", "vehicle", "blob")  # class 0 is "nothing moves here"
SPEED_EDGES = (0.3, 0.6, 1.0, 1.6, 2.5, 4.0)  # pixels per frame
HEIGHT_EDGES = (10.0, 16.0, 25.0)  # pixels
PACE_EDGES = (0.03, 0.06, 0.10, 0.16, 0.28)  # heights per frame
READOUT = (1 + len(KINDS), 1 + len(SPEED_EDGES), 1 + len(HEIGHT_EDGES), 1 + len(PACE_EDGES))

_N, _S, _H, _P = len(KINDS), *READOUT[1:]
NUM_CODES = _N + _H + _P + _N * (_S + _H + _P) + _S * _H
NEIGHBORHOODS = ((1, 2, 2), (2, 3, 3))  # cells (f, y, x) over which codes are averaged before the maximum is taken
FEATURE_DIM = len(NEIGHBORHOODS) * NUM_CODES
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
            nn.Conv3d(64, 96, 3, 1, 1),
            nn.ReLU(),
        )
        self.readout = nn.Conv3d(96, sum(READOUT), 1)

    def forward(self, cubes: Tensor) -> Tensor:
        """(B, 1, F, h, w) of gray levels to (B, D); F >= 4, h and w >= 16."""
        return self.pool_cells(self.encode_cells(cubes))

    def encode_cells(self, cubes: Tensor) -> Tensor:
        """(B, 1, F, h, w) of gray levels to codes (B, K, f, y, x)."""
        return compute_codes(self.predict_cells(shrink(cubes[:, 0])))

    def pool_cells(self, cells: Tensor) -> Tensor:
        return pool_peaks(cells)

    def predict_cells(self, gray: Tensor) -> tuple[Tensor, ...]:
        """(B, F, h', w') gray levels 0..1 to the logits of kind, speed, height and pace, each (B, classes, f, y, x).

        The convolutions run in the precision of their weights, everything around them in that of the pixels.
        """
        moving = compute_motion(gray).to(self.readout.weight.dtype)
        return torch.split(self.readout(self.trunk(moving)).to(gray.dtype), list(READOUT), dim=1)


def to_gray(pixels: Tensor) -> Tensor:
    """(..., 3) uint8 to gray levels 0..1, (..., 1) float32."""
    red, green, blue = (weight / 255 for weight in LUMA)
    levels = pixels[..., 0].to(torch.float32).mul_(red)
    return levels.add_(pixels[..., 1], alpha=green).add_(pixels[..., 2], alpha=blue)[..., None]


def shrink(gray: Tensor) -> Tensor:
    """Downscale (B, F, h, w) to a short side of SHORT_SIDE, each pixel the mean of the area it covers."""
    height, width = gray.shape[-2:]
    factor = max(1.0, min(height, width) / SHORT_SIDE)
    rows = compute_area_weights(height, round(height / factor)).to(gray)
    columns = compute_area_weights(width, round(width / factor)).to(gray)
    return rows @ (gray @ columns.T)


def compute_area_weights(size: int, target: int) -> Tensor:
    """(target, size): how much of each of `size` pixels lies in each of `target` equal intervals; rows sum to 1."""
    edges = torch.arange(target + 1, dtype=torch.float64) * (size / target)
    pixels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp(min=0) * (target / size)).float()


def compute_motion(gray: Tensor) -> Tensor:
    """(B, F, h, w) to (B, 2, F, h, w): difference to the temporal mean, and to the previous frame."""
    foreground = gray - gray.mean(dim=1, keepdim=True)
    change = functional.pad(gray[:, 1:] - gray[:, :-1], (0, 0, 0, 0, 1, 0))
    return compress(torch.stack([foreground, change], dim=1))


def compress(difference: Tensor, knee: float = 0.08) -> Tensor:
    """Compress differences of gray levels to -1..1, which brings weak and strong contrasts closer."""
    return difference / torch.sqrt(difference * difference + knee * knee)


def compute_codes(logits: tuple[Tensor, ...]) -> Tensor:
    """Logits of kind, speed, height and pace to (B, K, f, y, x): joint probabilities of moving and these classes."""
    kind, speed, height, pace = (part.softmax(dim=1) for part in logits)
    moves, kind = 1 - kind[:, :1], kind[:, 1:]
    alone = [kind, moves * height, moves * pace]
    pairs = [_multiply_pairs(kind, other) for other in (speed, height, pace)]
    return torch.cat([*alone, *pairs, _multiply_pairs(moves * speed, height)], dim=1)


def _multiply_pairs(first: Tensor, second: Tensor) -> Tensor:
    """(B, n, f, y, x) and (B, m, f, y, x) to (B, n * m, f, y, x)."""
    return (first.unsqueeze(2) * second.unsqueeze(1)).flatten(1, 2)


def pool_peaks(cells: Tensor) -> Tensor:
    """(B, K, f, y, x) to (B, D): the highest mean over any neighborhood, for each size of neighborhood."""
    extent = cells.shape[2:]  # short cubes have fewer cells than a neighborhood
    sizes = [tuple(min(length, limit) for length, limit in zip(size, extent, strict=True)) for size in NEIGHBORHOODS]
    means = [functional.avg_pool3d(cells, size, stride=1) for size in sizes]
    return torch.cat([mean.amax(dim=(2, 3, 4)) for mean in means], dim=1)


def load_micro3d(weights: Path | None = None) -> Micro3D:
    """Load the encoder in evaluation mode, with the bundled weights or a state dict from `weights`."""
    model = Micro3D()
    model.load_state_dict(torch.load(weights or EMBEDDED_WEIGHTS, map_location="cpu", weights_only=True))
    return model.eval()
