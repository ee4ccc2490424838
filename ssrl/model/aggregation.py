"""Multi-scale patch aggregation (MPA, Sect. 3.3 and Fig. 5): the patches of one scale become one snippet feature.

Shapes: S snippets, N = rows * cols patches, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from ssrl.model.config import AggregationConfig


class PatchAggregation(nn.Module):
    """(S, N, D) → (S, D). The convolution has D/2 channels: 1024 at D = 2048."""

    def __init__(self, feature_dim: int, config: AggregationConfig) -> None:
        super().__init__()
        channels = feature_dim // 2
        rows, cols = config.conv_shape
        self.config = config
        self.conv = nn.Sequential(
            nn.Conv2d(feature_dim, channels, 3, stride=config.stride, padding=config.padding),
            nn.ReLU(),
            nn.BatchNorm2d(channels),
        )
        self.linear = nn.Linear(channels * rows * cols, feature_dim)
        self.activation = nn.Sequential(nn.ReLU(), nn.Dropout(config.dropout))

    def forward(self, x: Tensor) -> Tensor:
        S, N, D = x.shape
        grid = x.transpose(1, 2).reshape(S, D, self.config.rows, self.config.cols)
        convolved = self.conv(grid)  # (S, D/2, rows', cols')
        features: Tensor = self.activation(self.linear(convolved.flatten(1)))  # (S, D)
        return features
