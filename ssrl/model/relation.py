"""The relation network (Fig. 4), used across patches as PSR (Sect. 3.2) and over time as VTR (Sect. 3.4).

    x (B, N, D) ─┬─ dilated convolutions d = 1, 2, 4 ──── 3 x (D/4) ─┐
                 └─ 1x1 convolution ── non-local block ──── (D/4) ───┴─ fusing convolution ── + x ──▶ (B, N, D)

Shapes: B sequences, N elements (patches, or snippets), D features. Convolutions run on (B, D, N).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssrl.model.config import Attention, RelationConfig

DILATIONS = (1, 2, 4)


class NonLocalBlock(nn.Module):
    """Embedded dot-product attention with a residual connection (eq. 1 and 2).

    The last batch norm starts at zero, so that the block starts as the identity (Wang et al., 2018).
    """

    def __init__(self, channels: int, attention: Attention) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.attention = attention
        self.g = nn.Conv1d(channels, inner, 1)
        self.theta = nn.Conv1d(channels, inner, 1)
        self.phi = nn.Conv1d(channels, inner, 1)
        norm = nn.BatchNorm1d(channels)
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
        self.W = nn.Sequential(nn.Conv1d(inner, channels, 1), norm)

    def weights(self, x: Tensor) -> Tensor:
        """The attention map M of eq. 1: (B, C, N) → (B, N, N); M[m, n] weighs what element m takes from n."""
        logits: Tensor = self.theta(x).transpose(1, 2) @ self.phi(x)  # (B, N, N)
        if self.attention == "softmax":
            return logits.softmax(dim=-1)
        return logits / logits.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        attended = self.weights(x) @ self.g(x).transpose(1, 2)  # (B, N, inner)
        related: Tensor = self.W(attended.transpose(1, 2))  # (B, C, N)
        return related + x


class RelationNetwork(nn.Module):
    """Dilated convolutions and a non-local block side by side, fused, with a residual connection (eq. 3 and 6).

    If the configuration leaves out a sub-network (Table 5), the fusing convolution takes only the other's channels.
    Module names follow the authors' release, so that its state dicts load unchanged.
    """

    def __init__(self, feature_dim: int, config: RelationConfig) -> None:
        super().__init__()
        if not (config.dilated or config.non_local):
            raise ValueError("a relation network needs its dilated convolutions, its non-local block, or both")
        branch = feature_dim // 4
        self.config = config
        if config.dilated:
            self.conv_1, self.conv_2, self.conv_3 = (
                _conv_relu_norm(feature_dim, branch, dilation) for dilation in DILATIONS
            )
        if config.non_local:
            self.conv_4 = nn.Sequential(nn.Conv1d(feature_dim, branch, 1, bias=False), nn.ReLU())
            self.non_local = NonLocalBlock(branch, config.attention)
        fused = branch * (len(DILATIONS) * config.dilated + config.non_local)
        self.conv_5 = nn.Sequential(
            nn.Conv1d(fused, feature_dim, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm1d(feature_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        channels_first = x.transpose(1, 2)  # (B, D, N)
        branches = []
        if self.config.dilated:
            branches += [conv(channels_first) for conv in (self.conv_1, self.conv_2, self.conv_3)]
        if self.config.non_local:
            branches.append(self.non_local(self.conv_4(channels_first)))
        fused: Tensor = self.conv_5(torch.cat(branches, dim=1))  # (B, D, N)
        return (fused + channels_first).transpose(1, 2)  # (B, N, D)

    def attention(self, x: Tensor) -> Tensor:
        """The attention map of the non-local block, which must exist: (B, N, D) → (B, N, N)."""
        return self.non_local.weights(self.conv_4(x.transpose(1, 2)))


def _conv_relu_norm(in_channels: int, out_channels: int, dilation: int) -> nn.Sequential:
    conv = nn.Conv1d(in_channels, out_channels, 3, dilation=dilation, padding=dilation)
    return nn.Sequential(conv, nn.ReLU(), nn.BatchNorm1d(out_channels))
