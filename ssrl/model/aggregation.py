"""Multi-scale patch aggregation (MPA, Sect. 3.3 and Fig. 5): the patches of one scale become one snippet feature.

Shapes: S snippets, N = rows * cols patches, D features, L positions of the convolution, O output channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssrl.model.config import AggregationConfig
from ssrl.model.norm import Norm, VideoDropout

SIZE = 3  # of the convolution


class PatchConvolution(nn.Conv2d):
    """A 3x3 convolution over a grid of patches, as a matrix product, which is two to three times as fast as PyTorch's
    convolution over so few positions: (S, N, D) → (S, L, O).
    """

    def __init__(self, in_channels: int, out_channels: int, config: AggregationConfig) -> None:
        super().__init__(in_channels, out_channels, SIZE, stride=config.stride, padding=config.padding)
        self.register_buffer("seen", _find_seen(config), persistent=False)
        self.seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        L, taps = self.seen.shape
        padded = F.pad(x, (0, 0, 0, 1))  # patch N is the padding
        columns = padded.index_select(1, self.seen.flatten()).view(len(x), L, taps * x.shape[2])
        return F.linear(columns, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)


def _find_seen(config: AggregationConfig) -> Tensor:
    """(L, 9): the patches that each position of the convolution sees; N stands for the padding."""
    N = config.rows * config.cols
    grid = F.pad(torch.arange(float(N)).view(1, 1, config.rows, config.cols), (config.padding,) * 4, value=N)
    return F.unfold(grid, SIZE, stride=config.stride)[0].T.long()


class PatchAggregation(nn.Module):
    """(S, N, D) → (S, D). The convolution has D/2 channels: 1024 at D = 2048."""

    def __init__(self, feature_dim: int, config: AggregationConfig) -> None:
        super().__init__()
        channels = feature_dim // 2
        rows, cols = config.conv_shape
        self.conv = nn.Sequential(PatchConvolution(feature_dim, channels, config), nn.ReLU(), Norm(channels))
        self.linear = nn.Linear(channels * rows * cols, feature_dim)
        self.activation = nn.Sequential(nn.ReLU(), VideoDropout(config.dropout))

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv(x)  # (S, L, D/2)
        features: Tensor = self.activation(self.linear(convolved.transpose(1, 2).flatten(1)))  # (S, D)
        return features
